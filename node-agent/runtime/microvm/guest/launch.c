/* The child that becomes a container's process: enters its namespaces, drops rights, runs. */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { OPEN_FILES = 1048576, LAST_CAPABILITY = 40, NR_CLOSE_RANGE = 436 };
extern char **environ;
static int report_fd;

static void __attribute__((noreturn)) die(const char *what) {
  char message[400];
  int32_t code = errno ? errno : EIO;
  memcpy(message, &code, 4);
  int length = snprintf(message + 4, sizeof message - 4, "%s: %s", what, strerror(code));
  if (length > (int)sizeof message - 5) length = sizeof message - 5;
  if (send(report_fd, message, 4 + length, MSG_NOSIGNAL) < 0) _exit(126);
  _exit(code == ENOENT ? 127 : 126);
}

static void mask_path(const char *path) {
  struct stat about;
  if (stat(path, &about)) return;
  int failed = S_ISDIR(about.st_mode) ? mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0k")
                                      : mount("/dev/null", path, NULL, MS_BIND, NULL);
  if (failed) die(path);
}

static void make_readonly(const char *path) {
  if (access(path, F_OK)) return;
  const unsigned long flags = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
  if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) || mount(NULL, path, NULL, flags, NULL))
    die(path);
}

/* What needs the container's own pid and cgroup namespaces, so its first process does it. */
static void finish_mounts(const struct container *c) {
  const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;
  umount2("/proc", MNT_DETACH); /* of a start that failed */
  if (mount("proc", "/proc", "proc", safe, NULL)) die("mount /proc");
  if (mount("cgroup", "/sys/fs/cgroup", "cgroup2", safe | (c->privileged ? 0 : MS_RDONLY), NULL))
    die("mount /sys/fs/cgroup");
  for (char **path = c->masked; *path; path++) mask_path(*path);
  for (char **path = c->readonly_paths; *path; path++) make_readonly(*path);
  unsigned long root = MS_REMOUNT | MS_BIND | MS_RDONLY | (c->privileged ? 0 : MS_NODEV);
  if ((c->readonly_root || c->writable == WRITABLE_NONE) && mount(NULL, "/", NULL, root, NULL))
    die("read-only root");
}

static void enter(const struct launch *l) {
  struct container *c = l->container;
  write_file("/proc/self/oom_score_adj", "0");
  cgroup_join(c->id);
  if (l->is_main ? unshare(CLONE_NEWCGROUP) : setns(c->cgroup_ns, CLONE_NEWCGROUP)) die("cgroup");
  if (setns(c->mount_ns, CLONE_NEWNS)) die("mount namespace");
  if (l->is_main) finish_mounts(c);
}

/* A container with a terminal has it as its console too. */
static void make_console(int terminal) {
  char path[32];
  unsigned number;
  int fd = open("/dev/console", O_CREAT | O_RDWR | O_NOCTTY | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
  if (ioctl(terminal, TIOCGPTN, &number)) die("console");
  snprintf(path, sizeof path, "/dev/pts/%u", number);
  if (mount(path, "/dev/console", NULL, MS_BIND, NULL)) die("console");
}

/* The terminal is made in the container's own devpts; the agent gets its other end. */
static int open_terminal(bool with_console) {
  int master = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0;
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock)) die("open a terminal");
  int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
  if (slave < 0 || ioctl(slave, TIOCSCTTY, 0)) die("open a terminal");
  char byte = 0;
  union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int))]; } control = {0};
  struct iovec io = {&byte, 1};
  struct msghdr header = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof control};
  struct cmsghdr *passed = CMSG_FIRSTHDR(&header);
  passed->cmsg_level = SOL_SOCKET;
  passed->cmsg_type = SCM_RIGHTS;
  passed->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(passed), &master, sizeof(int));
  if (sendmsg(report_fd, &header, MSG_NOSIGNAL) < 0) die("pass the terminal");
  if (with_console) make_console(master);
  close(master);
  return slave;
}

static void set_streams(const struct launch *l) {
  setsid();
  int in = l->in, out = l->out, err = l->err;
  if (l->command->tty) {
    in = out = err = open_terminal(l->is_main);
    if (fchown(in, l->command->uid, -1)) die("owner of the terminal");
  } else if (in < 0) {
    in = open("/dev/null", O_RDONLY | O_CLOEXEC);
  }
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) die("standard streams");
  /* A program may reopen its own streams by /proc/self/fd whatever user it runs as. */
  if (!l->command->tty && (fchown(1, l->command->uid, -1) || fchown(2, l->command->uid, -1)))
    die("owner of the streams");
}

static void set_limits(void) {
  struct rlimit files = {OPEN_FILES, OPEN_FILES};
  setrlimit(RLIMIT_NOFILE, &files);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  for (int number = 1; number < 65; number++) signal(number, SIG_DFL);
  umask(022);
}

static void set_capabilities(uint64_t mask) {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2] = {{0}};
  for (unsigned half = 0; half < 2; half++)
    sets[half].permitted = sets[half].effective = mask >> (32 * half);
  if (syscall(SYS_capset, &header, sets)) die("capabilities");
}

/* Who may still gain rights by execve needs SYS_ADMIN to install a filter: for that moment only. */
static bool filter_needs_admin(const struct launch *l) {
  return l->container->filter_length && !l->command->no_new_privileges;
}

static void drop_rights(const struct launch *l) {
  const struct command *c = l->command;
  for (int number = 0; number <= LAST_CAPABILITY; number++)
    if (!(c->capabilities >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0) &&
        errno != EINVAL) die("capability bounding set");
  if (setgroups(c->group_count, c->groups)) die("groups");
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgid(c->gid) || setuid(c->uid)) die("user");
  uint64_t admin = filter_needs_admin(l) ? 1ULL << CAP_SYS_ADMIN : 0;
  set_capabilities(c->capabilities | admin);
  if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0)) die("capabilities");
  if (c->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
}

/* The last step before execve: it is the program that the profile is for. */
static void install_filter(const struct launch *l) {
  const struct container *c = l->container;
  if (!c->filter_length) return;
  struct sock_fprog program = {c->filter_length / sizeof(struct sock_filter), (void *)c->filter};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program)) die("seccomp profile");
  if (filter_needs_admin(l)) set_capabilities(l->command->capabilities);
}

/* HOME of the user's line in the container's /etc/passwd, where the image sets none. */
static void set_home(uint32_t uid) {
  static char home[256] = "/", text[65536];
  if (getenv("HOME")) return;
  read_small_file("/etc/passwd", text, sizeof text);
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n"));) {
    char *field[7] = {0};
    for (unsigned i = 0; i < 7; i++) field[i] = strsep(&line, ":");
    if (!field[5] || !field[2] || strtoul(field[2], NULL, 10) != uid) continue;
    snprintf(home, sizeof home, "%s", field[5]);
    break;
  }
  setenv("HOME", home, 1);
}

void launch(const struct launch *l) {
  struct command *c = l->command;
  report_fd = l->report;
  enter(l);
  set_streams(l);
  set_limits();
  clearenv();
  for (char **variable = c->env; *variable; variable++)
    if (strchr(*variable, '=')) putenv(*variable);
  set_home(c->uid);
  const char *cwd = c->cwd[0] ? c->cwd : "/";
  bool entered = !chdir(cwd); /* root may enter what the user may not, and the other way round */
  drop_rights(l);
  char what[300];
  snprintf(what, sizeof what, "working directory \"%.200s\"", cwd);
  if (!entered && chdir(cwd)) die(what);
  /* An agent's descriptor that were inherited would be a way out of the container. */
  syscall(NR_CLOSE_RANGE, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
  install_filter(l);
  execvp(c->argv[0], c->argv);
  bool unfound = errno == ENOENT && !strchr(c->argv[0], '/');
  snprintf(what, sizeof what, "exec: \"%.200s\"%s", c->argv[0],
           unfound ? ": executable file not found in $PATH" : "");
  die(what);
}
