/* What the host asks for: reads a request's fields and does it, or starts the child that does. */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

/* --- fields ---------------------------------------------------------------------------------- */

static void *take(struct reader *r, size_t size) {
  if (r->bad || (size_t)(r->end - r->at) < size) {
    r->bad = true;
    return NULL;
  }
  uint8_t *at = r->at;
  r->at += size;
  return at;
}

uint8_t get_u8(struct reader *r) {
  uint8_t *at = take(r, 1);
  return at ? *at : 0;
}

uint32_t get_u32(struct reader *r) {
  uint32_t value = 0;
  void *at = take(r, 4);
  if (at) memcpy(&value, at, 4);
  return value;
}

uint64_t get_u64(struct reader *r) {
  uint64_t value = 0;
  void *at = take(r, 8);
  if (at) memcpy(&value, at, 8);
  return value;
}

/* Strings are sent with their final NUL, which the length counts. */
char *get_string(struct reader *r) {
  uint32_t length = get_u32(r);
  char *at = length ? take(r, length) : NULL;
  if (at && strnlen(at, length) == length - 1) return at;
  r->bad = true;
  return "";
}

/* Each element takes bytes of the request, so that a count cannot ask for more memory than that. */
static unsigned get_count(struct reader *r, size_t element) {
  uint32_t count = get_u32(r);
  if (count <= (size_t)(r->end - r->at) / element) return count;
  r->bad = true;
  return 0;
}

char **get_strings(struct reader *r, unsigned *count) {
  *count = get_count(r, 5);
  char **list = calloc(*count + 1, sizeof *list);
  for (unsigned i = 0; list && i < *count; i++) list[i] = get_string(r);
  if (!list) r->bad = true;
  return list;
}

uint8_t *get_bytes(struct reader *r, uint32_t *length) {
  *length = get_u32(r);
  return take(r, *length);
}

void read_command(struct reader *r, struct command *c) {
  unsigned count;
  c->argv = get_strings(r, &count);
  if (!count) r->bad = true;
  c->env = get_strings(r, &count);
  c->cwd = get_string(r);
  c->uid = get_u32(r);
  c->gid = get_u32(r);
  c->group_count = get_count(r, 4);
  c->groups = calloc(c->group_count + 1, sizeof *c->groups);
  for (unsigned i = 0; c->groups && i < c->group_count; i++) c->groups[i] = get_u32(r);
  if (!c->groups) r->bad = true;
  c->capabilities = get_u64(r);
  c->no_new_privileges = get_u8(r);
  c->tty = get_u8(r);
  c->input = get_u8(r);
}

static void read_limits(struct reader *r, struct limits *limits) {
  limits->weight = get_u64(r);
  limits->quota = get_u64(r);
  limits->period = get_u64(r);
  limits->memory = get_u64(r);
  limits->pids = get_u64(r);
}

static void read_container(struct reader *r, struct container *c) {
  c->root_lun = get_u32(r);
  c->root_filesystem = get_string(r);
  c->writable = get_u8(r);
  c->writable_lun = get_u32(r);
  c->readonly_root = get_u8(r);
  c->privileged = get_u8(r);
  read_command(r, &c->command);
  c->mount_count = get_count(r, 18);
  c->mounts = calloc(c->mount_count + 1, sizeof *c->mounts);
  for (unsigned i = 0; c->mounts && i < c->mount_count; i++) {
    struct mount_spec *m = &c->mounts[i];
    m->kind = get_u8(r);
    m->source = get_string(r);
    m->lun = get_u32(r);
    m->filesystem = get_string(r);
    m->target = get_string(r);
    m->readonly = get_u8(r);
  }
  c->device_count = get_count(r, 13);
  c->devices = calloc(c->device_count + 1, sizeof *c->devices);
  for (unsigned i = 0; c->devices && i < c->device_count; i++) {
    c->devices[i].lun = get_u32(r);
    c->devices[i].path = get_string(r);
    c->devices[i].mode = get_u32(r);
  }
  read_limits(r, &c->limits);
  c->pid_namespace = get_u8(r);
  c->pid_target = get_string(r);
  unsigned count;
  c->masked = get_strings(r, &count);
  c->readonly_paths = get_strings(r, &count);
  c->filter = get_bytes(r, &c->filter_length);
  if (!c->mounts || !c->devices) r->bad = true;
}

/* --- operations: 0, or an errno value with a text -------------------------------------------- */

static const char *text;

static int fail(int error, const char *why) {
  text = why;
  return error;
}

static int create(uint32_t request, struct reader *r, uint8_t *memory) {
  char *id = get_string(r);
  if (find_container(id)) return fail(EEXIST, "a container of this id exists");
  struct container *c = new_container(id);
  if (!c) return fail(EINVAL, "too many containers, or an id that is no name");
  read_container(r, c);
  int error = r->bad ? fail(EINVAL, "malformed request") : create_container(request, c);
  if (error) free_container(c);
  else c->memory = memory;
  return error;
}

static int start(uint32_t request, struct container *c) {
  if (!c->ready) return fail(EAGAIN, "the container is not set up yet");
  if (c->started) return fail(EEXIST, "the container was started before");
  struct process *p = new_process(request);
  if (!p) return fail(EAGAIN, "too many processes of the host's in this guest");
  p->container = c;
  p->is_main = true;
  p->start_request = request;
  int error = spawn(c, &c->command, p);
  if (error) {
    release_process(p);
    return fail(error, "fork");
  }
  c->started = true;
  return 0;
}

static int exec(uint32_t request, struct container *c, struct reader *r) {
  struct command command = {0};
  read_command(r, &command);
  struct process *main = main_process(c), *p = NULL;
  int error = 0;
  if (r->bad) error = fail(EINVAL, "malformed request");
  else if (!c->started || !main || main->start_request || main->exited)
    error = fail(ESRCH, "the container is not running");
  else if (!(p = new_process(request))) error = fail(EAGAIN, "too many processes at once");
  if (p) {
    p->container = c;
    p->start_request = request;
    if ((error = spawn(c, &command, p))) {
      release_process(p);
      text = "fork";
    }
  }
  free(command.argv);
  free(command.env);
  free(command.groups);
  return error;
}

static void attach(uint32_t request, struct container *c) {
  struct process *p = main_process(c);
  if (!p) return reply(request, ESRCH, "the container was never started", NULL, 0);
  p->attached = true;
  p->log_sent = 0;
  p->sent_sequence = p->first_sequence;
  uint8_t answer[21];
  memcpy(answer, &p->id, 4);
  memcpy(answer + 4, &p->first_sequence, 8);
  memcpy(answer + 12, &p->input_received, 8);
  answer[20] = p->input_eof;
  reply(request, 0, NULL, answer, sizeof answer);
}

static int send_signal(struct container *c, struct reader *r) {
  int number = get_u8(r);
  bool all = get_u8(r);
  struct process *main = main_process(c);
  if (number < 1 || number > 64) return fail(EINVAL, "no such signal");
  if (all && number == SIGKILL) return cgroup_kill(c->id), 0;
  if (all) return cgroup_signal(c->id, number);
  if (!main || main->exited || main->pid <= 0) return fail(ESRCH, "the container is not running");
  return kill(main->pid, number) ? fail(errno, "kill") : 0;
}

/* Opens in the container's own mounts; links lead nowhere else. */
static void read_container_file(uint32_t request, struct container *c, struct reader *r) {
  static uint8_t buffer[MAX_FILE];
  char *path = get_string(r);
  uint32_t limit = get_u32(r);
  if (r->bad || limit > MAX_FILE) return reply(request, EINVAL, "malformed request", NULL, 0);
  int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  int fd = -1, error = 0;
  ssize_t length = 0, got;
  struct stat about;
  if (setns(c->mount_ns, CLONE_NEWNS)) error = errno;
  else fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (!error && fd < 0) error = errno;
  if (setns(own, CLONE_NEWNS)) warn("namespace: %s", strerror(errno));
  close(own);
  if (fd >= 0 && (fstat(fd, &about) || !S_ISREG(about.st_mode))) error = EINVAL;
  while (!error && length < limit && (got = read(fd, buffer + length, limit - length)) != 0) {
    if (got < 0) error = errno;
    else length += got;
  }
  if (fd >= 0) close(fd);
  static char why[300];
  snprintf(why, sizeof why, "read %.200s: %s", path, strerror(error));
  reply(request, error, error ? why : NULL, buffer, error ? 0 : length);
}

static void stats(uint32_t request, struct container *c) {
  struct cgroup_stats s = {0};
  struct statfs fs = {0};
  cgroup_stats(c->id, &s);
  int own = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
  if (c->ready && !setns(c->mount_ns, CLONE_NEWNS)) {
    statfs("/", &fs); /* of an overlay: that of its written layer */
    if (setns(own, CLONE_NEWNS)) warn("namespace: %s", strerror(errno));
  }
  close(own);
  uint64_t answer[7] = {s.cpu_ns, s.usage, s.working_set, s.rss, s.pids,
                        (fs.f_blocks - fs.f_bfree) * fs.f_bsize, fs.f_files - fs.f_ffree};
  reply(request, 0, NULL, answer, sizeof answer);
}

static int resize(struct reader *r) {
  struct process *p = find_process(get_u32(r));
  struct winsize size = {0};
  size.ws_col = get_u32(r);
  size.ws_row = get_u32(r);
  if (!p || !p->tty) return fail(EINVAL, "no terminal");
  return ioctl(p->in, TIOCSWINSZ, &size) ? fail(errno, "resize") : 0;
}

static int kill_process(struct reader *r) {
  struct process *p = find_process(get_u32(r));
  if (!p || p->exited) return 0;
  if (p->dial) process_ended(p, 0);
  else if (p->pid > 0 && kill(-p->pid, SIGKILL)) kill(p->pid, SIGKILL);
  return 0;
}

static int release(struct reader *r) {
  struct process *p = find_process(get_u32(r));
  if (p && !p->is_main && p->recorded) release_process(p);
  return 0;
}

static int start_dial(uint32_t request, struct reader *r) {
  uint32_t number = get_u32(r);
  struct process *p = number && number < 65536 ? new_process(request) : NULL;
  if (!p) return fail(EINVAL, "no such port, or too many connections");
  p->start_request = request;
  int error = dial(p, number);
  if (error) release_process(p);
  return error;
}

static int remove_container(uint32_t request, struct container *c) {
  if (c->remove_request) return fail(EBUSY, "it is being removed");
  cgroup_kill(c->id);
  c->remove_request = request;
  c->remove_deadline_ms = monotonic_ms() + 10000;
  return 0;
}

static int configure(struct reader *r) {
  int error = configure_network(r, &text);
  uint64_t pids = get_u64(r);
  if (!error && !r->bad && pids) cgroup_limit_pod_pids(pids);
  return error;
}

/* True when the answer comes later or was given. */
static bool container_operation(uint8_t op, uint32_t request, struct reader *r, int *error) {
  struct container *c = find_container(get_string(r));
  *error = 0;
  if (!c) {
    *error = fail(ENOENT, "no such container in the guest");
    return false;
  }
  switch (op) {
  case OP_START: return !(*error = start(request, c));
  case OP_EXEC: return !(*error = exec(request, c, r));
  case OP_ATTACH: attach(request, c); return true;
  case OP_STATS: stats(request, c); return true;
  case OP_READ_FILE:
    if (!c->ready) *error = fail(EAGAIN, "the container is not set up yet");
    else read_container_file(request, c, r);
    return c->ready;
  case OP_SIGNAL: *error = send_signal(c, r); return false;
  case OP_REMOVE: return !(*error = remove_container(request, c));
  case OP_UPDATE:
    read_limits(r, &c->limits);
    *error = cgroup_limit(c->id, &c->limits);
    return false;
  }
  *error = fail(ENOSYS, "no such operation in this guest");
  return false;
}

void handle_request(uint32_t id, uint8_t *memory, size_t length) {
  struct reader r = {.at = memory, .end = memory + length};
  uint8_t op = get_u8(&r);
  bool later = false;
  int error = 0;
  text = NULL;
  switch (op) {
  case OP_CONFIGURE: error = configure(&r); break;
  case OP_CREATE:
    if (!(error = create(id, &r, memory))) return; /* the container keeps the memory */
    break;
  case OP_DIAL: later = !(error = start_dial(id, &r)); break;
  case OP_RESIZE: error = resize(&r); break;
  case OP_KILL: error = kill_process(&r); break;
  case OP_RELEASE: error = release(&r); break;
  case OP_POWEROFF: power_off(); break;
  default: later = container_operation(op, id, &r, &error);
  }
  if (!later) reply(id, error, error ? (text ? text : strerror(error)) : NULL, NULL, 0);
  free(memory);
}
