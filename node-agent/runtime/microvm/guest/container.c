/* Containers: a mount namespace built by a child, then processes that enter it. */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NR_CLOSE_RANGE = 436 };
struct container containers[MAX_CONTAINERS];

/* A child that builds a container's mounts; it lives until the agent holds its namespace. */
struct job { pid_t pid; int report; uint32_t request; struct container *container; };
static struct job jobs[MAX_JOBS];
static int pod_pid_ns = -1; /* of pods whose containers share their processes */
static pid_t pod_init;

struct container *find_container(const char *id) {
  for (unsigned i = 0; i < MAX_CONTAINERS; i++)
    if (containers[i].used && !strcmp(containers[i].id, id)) return &containers[i];
  return NULL;
}

struct container *new_container(const char *id) {
  size_t length = strlen(id);
  if (!length || length >= ID_SIZE || strchr(id, '/') || id[0] == '.') return NULL;
  for (unsigned i = 0; i < MAX_CONTAINERS; i++) {
    struct container *c = &containers[i];
    if (c->used) continue;
    *c = (struct container){.used = true, .mount_ns = -1, .pid_ns = -1, .cgroup_ns = -1};
    memcpy(c->id, id, length);
    return c;
  }
  return NULL;
}

void free_container(struct container *c) {
  struct process *main = main_process(c);
  if (main) release_process(main);
  if (c->mount_ns >= 0) close(c->mount_ns);
  if (c->pid_ns >= 0) close(c->pid_ns);
  if (c->cgroup_ns >= 0) close(c->cgroup_ns);
  free(c->mounts);
  free(c->devices);
  free(c->masked);
  free(c->readonly_paths);
  free(c->command.argv);
  free(c->command.env);
  free(c->command.groups);
  free(c->memory);
  c->used = false;
}

static int open_namespace(pid_t pid, const char *kind) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/%s", pid, kind);
  return open(path, O_RDONLY | O_CLOEXEC);
}

/* A child of the agent that does not exec must not keep the agent's descriptors. */
static void close_range_from(unsigned first) { syscall(NR_CLOSE_RANGE, first, ~0U, 0); }

int create_container(uint32_t request, struct container *c) {
  struct job *job = NULL;
  for (unsigned i = 0; i < MAX_JOBS && !job; i++)
    if (!jobs[i].pid) job = &jobs[i];
  if (!job) return EAGAIN;
  int error = cgroup_create(c->id);
  if (!error) error = cgroup_limit(c->id, &c->limits);
  if (error) return error;
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) return errno;
  pid_t pid = fork();
  if (pid == 0) {
    if (dup2(pair[1], 0) < 0) _exit(1);
    close_range_from(1);
    build_rootfs(c, 0);
  }
  close(pair[1]);
  if (pid < 0) {
    error = errno;
    close(pair[0]);
    cgroup_remove(c->id);
    return error;
  }
  *job = (struct job){.pid = pid, .report = pair[0], .request = request, .container = c};
  return 0;
}

unsigned poll_jobs(struct pollfd *fds, unsigned space) {
  for (unsigned i = 0; i < space; i++)
    fds[i] = (struct pollfd){.fd = jobs[i].pid ? jobs[i].report : -1, .events = POLLIN};
  return space;
}

static void end_job(struct job *job) {
  char message[512];
  ssize_t got = recv(job->report, message, sizeof message - 1, MSG_DONTWAIT);
  struct container *c = job->container;
  int32_t error = EIO;
  const char *why = "the guest could not set up the container";
  if (got >= 4) {
    memcpy(&error, message, 4);
    message[got] = 0;
    why = message + 4;
  }
  if (!error) {
    c->mount_ns = open_namespace(job->pid, "mnt");
    if (c->mount_ns < 0) error = errno;
  }
  kill(job->pid, SIGKILL); /* it waited for this */
  close(job->report);
  c->ready = !error;
  reply(job->request, error, error ? why : NULL, NULL, 0);
  job->pid = 0;
  if (error) {
    cgroup_remove(c->id);
    free_container(c);
  }
}

void serve_jobs(const struct pollfd *fds, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (jobs[i].pid && fds[i].revents) end_job(&jobs[i]);
}

/* --- processes ------------------------------------------------------------------------------- */

/* Like fork, as process 1 of a new pid namespace when `flags` says so. */
static pid_t clone_process(unsigned long flags) {
  return syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

/* Process 1 of the pod's shared namespace only reaps; the namespace lives as long as it does. */
static int ensure_pod_namespace(void) {
  if (pod_pid_ns >= 0) return 0;
  pid_t pid = clone_process(CLONE_NEWPID);
  if (pid < 0) return errno;
  if (pid == 0) {
    close_range_from(0); /* it would hold other processes' streams open */
    signal(SIGCHLD, SIG_IGN);
    for (;;) pause();
  }
  pod_init = pid;
  pod_pid_ns = open_namespace(pid, "pid");
  return pod_pid_ns < 0 ? errno : 0;
}

bool reap_helper(pid_t pid, int status) {
  (void)status;
  if (pid != pod_init || !pid) return false;
  pod_init = 0;
  if (pod_pid_ns >= 0) close(pod_pid_ns);
  pod_pid_ns = -1;
  return true;
}

/* The namespace to be born in: an fd, -1 for a new one, or below that an error. */
static int pid_namespace_of(struct container *c, bool is_main) {
  if (!is_main) return c->pid_ns;
  if (c->pid_namespace == PID_OWN) return -1;
  if (c->pid_namespace == PID_POD) {
    int error = ensure_pod_namespace();
    return error ? -1 - error : pod_pid_ns;
  }
  struct container *target = find_container(c->pid_target);
  struct process *main = target ? main_process(target) : NULL;
  return main && !main->exited && target->pid_ns >= 0 ? target->pid_ns : -1 - ESRCH;
}

static void close_all(const int *fds, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (fds[i] >= 0) close(fds[i]);
}

/* Pairs: [0] the host's end (never blocks), [1] the process's. */
static int make_pipes(const struct command *command, int fds[8]) {
  int pair[2];
  for (unsigned i = 0; i < 8; i++) fds[i] = -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds + 6)) return errno;
  if (command->tty) return 0;
  for (unsigned i = 0; i < 3; i++) {
    if (i == 0 && !command->input) continue;
    if (pipe2(pair, O_CLOEXEC)) return errno;
    fds[2 * i] = pair[i == 0 ? 1 : 0];
    fds[2 * i + 1] = pair[i == 0 ? 0 : 1];
    fcntl(fds[2 * i], F_SETFL, O_NONBLOCK);
  }
  return 0;
}

int spawn(struct container *c, struct command *command, struct process *p) {
  int fds[8];
  struct process *main = main_process(c);
  if (!p->is_main && c->cgroup_ns < 0) c->cgroup_ns = open_namespace(main->pid, "cgroup");
  int error = make_pipes(command, fds);
  int ns = error ? -1 : pid_namespace_of(c, p->is_main);
  if (!error && ns < -1) error = -(ns + 1);
  if (error) {
    close_all(fds, 8);
    return error;
  }
  int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  if (ns >= 0 && setns(ns, CLONE_NEWPID)) error = errno;
  pid_t pid = error ? -1 : clone_process(ns >= 0 ? 0 : CLONE_NEWPID);
  if (pid == 0) {
    struct launch l = {c, command, p->is_main, fds[1], fds[3], fds[5], fds[7]};
    launch(&l);
  }
  if (pid < 0 && !error) error = errno;
  if (ns >= 0 && setns(own, CLONE_NEWPID)) warn("pid namespace: %s", strerror(errno));
  close(own);
  const int theirs[] = {fds[1], fds[3], fds[5], fds[7]};
  close_all(theirs, 4);
  p->in = fds[0];
  p->out = fds[2];
  p->err = fds[4];
  p->report = fds[6];
  if (error) return error;
  p->pid = pid;
  p->tty = command->tty;
  if (p->is_main) {
    if (c->pid_ns >= 0) close(c->pid_ns);
    c->pid_ns = open_namespace(pid, "pid");
  }
  return 0;
}

/* --- removal --------------------------------------------------------------------------------- */

static bool has_live_process(const struct container *c) {
  for (unsigned i = 0; i < MAX_PROCESSES; i++)
    if (processes[i].used && processes[i].container == c && !processes[i].exited) return true;
  return false;
}

bool removals_wait(void) {
  for (unsigned i = 0; i < MAX_CONTAINERS; i++)
    if (containers[i].used && containers[i].remove_request) return true;
  return false;
}

void serve_removals(void) {
  for (unsigned i = 0; i < MAX_CONTAINERS; i++) {
    struct container *c = &containers[i];
    if (!c->used || !c->remove_request) continue;
    bool late = monotonic_ms() > c->remove_deadline_ms;
    if (has_live_process(c) && !late) continue;
    int error = has_live_process(c) ? EBUSY : cgroup_remove(c->id);
    if (error == EBUSY && !late) continue;
    uint32_t request = c->remove_request;
    c->remove_request = 0;
    if (error == EBUSY) {
      reply(request, error, "processes of the container do not end", NULL, 0);
      continue;
    }
    for (unsigned j = 0; j < MAX_PROCESSES; j++)
      if (processes[j].used && processes[j].container == c) {
        processes[j].container = NULL;
        if (processes[j].is_main) release_process(&processes[j]);
      }
    free_container(c);
    reply(request, 0, NULL, NULL, 0);
  }
}
