/* Process 1: mounts what the kernel offers, loads the modules, then serves one loop. */
#define _GNU_SOURCE
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Free-standing polls: the port's POLLOUT wakes late, so what waits for it is tried this often. */
enum { PORT_RETRY_MS = 1, REMOVAL_RETRY_MS = 5, AWAY_RETRY_MS = 1000, IDLE_RETRY_MS = 60 * 1000 };

int64_t wall_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t monotonic_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* To the kernel's log, which the host keeps. */
void warn(const char *format, ...) {
  char line[512];
  int used = snprintf(line, sizeof line, "<4>gantry-agent: ");
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + used, sizeof line - used, format, arguments);
  va_end(arguments);
  int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, line, strlen(line)) < 0) { /* nobody else to tell */ }
  close(fd);
}

int write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  ssize_t done = write(fd, text, strlen(text));
  int error = done < 0 ? errno : 0;
  close(fd);
  return error;
}

ssize_t read_small_file(const char *path, char *buffer, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t length = 0, got;
  while ((size_t)length < size - 1 && (got = read(fd, buffer + length, size - 1 - length)) > 0)
    length += got;
  buffer[length] = 0;
  close(fd);
  return length;
}

void power_off(void) {
  sync();
  reboot(RB_POWER_OFF);
}

static int by_name(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The initramfs holds them as NNN-name.ko, in the order of their dependencies. */
static void load_modules(void) {
  char *names[128];
  unsigned count = 0;
  DIR *dir = opendir("/modules");
  if (!dir) return;
  for (struct dirent *entry; (entry = readdir(dir)) && count < 128;)
    if (entry->d_name[0] != '.') names[count++] = strdup(entry->d_name);
  closedir(dir);
  qsort(names, count, sizeof *names, by_name);
  for (unsigned i = 0; i < count; i++) {
    char path[300];
    snprintf(path, sizeof path, "/modules/%s", names[i]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
      warn("module %s: %s", names[i], strerror(errno));
    close(fd);
    unlink(path); /* its memory is the guest's */
    free(names[i]);
  }
}

static void must_mount(const char *source, const char *target, const char *type,
                       unsigned long flags, const char *options) {
  mkdir(target, 0755);
  if (mount(source, target, type, flags, options))
    warn("mount %s: %s", target, strerror(errno));
}

/* A root of its own: pivot_root, which containers need, refuses to move the initial ramfs. */
static void mount_all(void) {
  must_mount("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755");
  load_modules();
  mkdir("/new", 0755);
  if (mount("root", "/new", "tmpfs", 0, "mode=0755") || chdir("/new") || mkdir("dev", 0755) ||
      mount("/dev", "dev", NULL, MS_MOVE, NULL) || mount(".", "/", NULL, MS_MOVE, NULL) ||
      chroot("."))
    warn("root: %s", strerror(errno));
  const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  must_mount("proc", "/proc", "proc", safe, NULL);
  must_mount("sys", "/sys", "sysfs", safe, NULL);
  must_mount("cgroup", "/sys/fs/cgroup", "cgroup2", safe, NULL);
  must_mount("pts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666");
  must_mount("shm", "/dev/shm", "tmpfs", safe, "mode=1777,size=64m");
  must_mount("mqueue", "/dev/mqueue", "mqueue", safe, NULL);
  mkdir("/run", 0755);
  mkdir("/run/share", 0755);
  mkdir("/run/build", 0755);
}

static void reap(void) {
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (reap_helper(pid, status)) continue;
    for (unsigned i = 0; i < MAX_PROCESSES; i++)
      if (processes[i].used && !processes[i].exited && processes[i].pid == pid)
        process_ended(&processes[i], status);
  }
}

static void serve(int signals) {
  static struct pollfd fds[2 + MAX_JOBS + 4 * MAX_PROCESSES];
  for (;;) {
    fds[0] = (struct pollfd){.fd = signals, .events = POLLIN};
    /* Without a host the port is always "ready" (hung up); SIGIO says when one comes. */
    bool connected = channel_connected();
    fds[1] = (struct pollfd){.fd = connected ? port : -1, .events = POLLIN};
    unsigned jobs = poll_jobs(fds + 2, MAX_JOBS);
    unsigned streams = poll_processes(fds + 2 + jobs, 4 * MAX_PROCESSES);
    bool waits = channel_flush(); /* after the streams: they may just have settled */
    int64_t timeout = IDLE_RETRY_MS, deadline = process_deadline_ms();
    if (deadline) timeout = deadline - monotonic_ms() < 0 ? 0 : deadline - monotonic_ms();
    if (!connected && timeout > AWAY_RETRY_MS) timeout = AWAY_RETRY_MS;
    if (removals_wait() && timeout > REMOVAL_RETRY_MS) timeout = REMOVAL_RETRY_MS;
    if (waits && connected && timeout > PORT_RETRY_MS) timeout = PORT_RETRY_MS;
    int ready = poll(fds, 2 + jobs + streams, (int)timeout);
    if (ready < 0 && errno != EINTR) warn("poll: %s", strerror(errno));
    if (fds[0].revents) {
      struct signalfd_siginfo info;
      while (read(signals, &info, sizeof info) > 0) continue;
    }
    serve_jobs(fds + 2, jobs);
    serve_processes(fds + 2 + jobs, streams);
    reap(); /* after the streams: what a process wrote comes before its end */
    if (fds[1].revents & POLLIN) channel_read();
    serve_removals();
  }
}

int main(void) {
  /* The kernel starts process 1 with a root shared with its own threads: setns would refuse. */
  if (unshare(CLONE_FS)) warn("unshare: %s", strerror(errno));
  mount_all();
  setsid();
  umask(022);
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGCHLD);
  sigaddset(&mask, SIGIO);
  sigprocmask(SIG_BLOCK, &mask, NULL);
  signal(SIGPIPE, SIG_IGN);
  int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
  write_file("/proc/self/oom_score_adj", "-1000");
  if (cgroup_setup()) warn("cgroups: %s", strerror(errno));
  channel_open();
  serve(signals);
}
