/*
 * Builds a container's mounts in a namespace of its own, in a child of the agent. Every source is
 * opened before the root changes and attached after it: links in an image lead nowhere else.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Kernel interface newer than the C library's headers. Source: linux/mount.h. */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define MOVE_MOUNT_F_EMPTY_PATH 4
#define MOUNT_ATTR_RDONLY 1
#define MOUNT_ATTR_NOSUID 2
#define MOUNT_ATTR_NODEV 4
struct mount_attr { uint64_t attr_set, attr_clr, propagation, userns_fd; };
#endif
enum { RECURSIVE = 0x8000, NR_OPEN_TREE = 428, NR_MOVE_MOUNT = 429, NR_MOUNT_SETATTR = 442 };
enum { DISK_WAIT_MS = 5000 };
#define SHARE "/run/share"
#define BUILD "/run/build"

static int report_fd;

static void tell(int error, const char *what, const char *detail) {
  char message[400];
  int32_t code = error;
  memcpy(message, &code, 4);
  int length = error ? snprintf(message + 4, sizeof message - 4, "%s %s: %s", what, detail,
                                strerror(error))
                     : 0;
  if (length > (int)sizeof message - 5) length = sizeof message - 5;
  if (send(report_fd, message, 4 + length, MSG_NOSIGNAL) < 0) _exit(1);
}

static void __attribute__((noreturn)) die(const char *what, const char *detail) {
  tell(errno ? errno : EIO, what, detail);
  _exit(1);
}

/* Waits for the host's disk to appear: the kernel scans for it after the host has added it. */
static void disk_path(uint32_t lun, char *path, size_t size) {
  char dir_name[80];
  for (int waited = 0; waited < DISK_WAIT_MS; waited += 2) {
    for (int host = 0; host < 4; host++) {
      snprintf(dir_name, sizeof dir_name, "/sys/class/scsi_device/%d:0:0:%u/device/block", host,
               lun);
      DIR *dir = opendir(dir_name);
      for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, size, "/dev/%.32s", entry->d_name);
        closedir(dir);
        dir = NULL;
        int fd = open(path, O_RDONLY | O_CLOEXEC); /* the name comes before the disk is ready */
        if (fd >= 0) {
          close(fd);
          return;
        }
        break;
      }
      if (dir) closedir(dir);
    }
    usleep(2000);
  }
  errno = ENODEV;
  snprintf(dir_name, sizeof dir_name, "%u", lun);
  die("disk with LUN", dir_name);
}

static void mount_disk(uint32_t lun, const char *type, const char *target, bool readonly) {
  char path[64];
  disk_path(lun, path, sizeof path);
  if (mkdir(target, 0755) && errno != EEXIST) die("mkdir", target);
  unsigned long flags = MS_NODEV | (readonly ? MS_RDONLY : 0);
  /* A written layer is thrown away: nobody needs its inode tables written ahead, which takes time
   * and space of the host for minutes. */
  const char *options = !readonly && !strcmp(type, "ext4") ? "noinit_itable" : NULL;
  if (mount(path, target, type, flags, options)) die("mount disk as", type);
}

int mount_share(void) {
  struct stat share, above;
  if (!stat(SHARE, &share) && !stat(SHARE "/..", &above) && share.st_dev != above.st_dev) return 0;
  /* cache=mmap: nothing is cached but mapped pages, so that updates of the host arrive at once. */
  return mount("share", SHARE, "9p", MS_NODEV | MS_NOSUID,
               "trans=virtio,version=9p2000.L,access=user,cache=mmap,msize=262144")
             ? errno : 0;
}

static int clone_tree(const char *path) {
  int fd = syscall(NR_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC | RECURSIVE);
  if (fd < 0) die("mount source", path);
  return fd;
}

static void protect(int fd, uint64_t set, const char *what) {
  struct mount_attr attr = {.attr_set = set};
  if (set && syscall(NR_MOUNT_SETATTR, fd, "", AT_EMPTY_PATH | RECURSIVE, &attr, sizeof attr))
    die("mount options of", what);
}

static void make_parents(const char *path) {
  char part[4096];
  snprintf(part, sizeof part, "%s", path);
  for (char *slash = part + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
    *slash = 0;
    if (mkdir(part, 0755) && errno != EEXIST) die("mkdir", part);
  }
}

static void make_target(const char *target, bool is_dir) {
  struct stat about;
  make_parents(target);
  if (!stat(target, &about)) return;
  if (is_dir ? mkdir(target, 0755) : (close(open(target, O_CREAT | O_WRONLY | O_CLOEXEC, 0644)), 0))
    die("mkdir", target);
}

static void attach(int tree, const char *target) {
  struct stat about;
  if (fstat(tree, &about)) die("mount source of", target);
  make_target(target, S_ISDIR(about.st_mode));
  if (syscall(NR_MOVE_MOUNT, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH))
    die("mount at", target);
  close(tree);
}

static void mount_new(const char *type, const char *target, unsigned long flags, const char *data) {
  make_target(target, true);
  if (mount(type, target, type, flags, data)) die("mount", target);
}

/* --- the root -------------------------------------------------------------------------------- */

static void build_root(const struct container *c) {
  mount_disk(c->root_lun, c->root_filesystem, BUILD "/lower", true);
  mkdir(BUILD "/over", 0755);
  if (c->writable == WRITABLE_LUN) mount_disk(c->writable_lun, "ext4", BUILD "/over", false);
  else if (mount("upper", BUILD "/over", "tmpfs", MS_NODEV, "mode=0755")) die("mount", "upper");
  if ((mkdir(BUILD "/over/upper", 0755) && errno != EEXIST) ||
      (mkdir(BUILD "/over/work", 0755) && errno != EEXIST)) die("mkdir", "upper");
  /* The root's own mode and owner are the image's. */
  struct stat about;
  if (stat(BUILD "/lower", &about) || chmod(BUILD "/over/upper", about.st_mode & 07777) ||
      chown(BUILD "/over/upper", about.st_uid, about.st_gid)) die("owner of", "root");
  mkdir(BUILD "/root", 0755);
  if (mount("overlay", BUILD "/root", "overlay", MS_NODEV,
            "lowerdir=" BUILD "/lower,upperdir=" BUILD "/over/upper,workdir=" BUILD "/over/work"))
    die("mount", "overlay");
}

static const char *const NODES[] = {"null", "zero", "full", "random", "urandom", "tty"};
enum { NODE_COUNT = sizeof NODES / sizeof *NODES };

/* A container's /dev has no device nodes of its own (nodev): those it may use are mounted on it. */
static void build_dev(const struct container *c, int *nodes, int shm, int all) {
  if (c->privileged) {
    attach(all, "/dev");
    return;
  }
  mount_new("tmpfs", "/dev", MS_NOSUID | MS_NODEV, "mode=0755,size=65536k");
  for (unsigned i = 0; i < NODE_COUNT; i++) {
    char target[32];
    snprintf(target, sizeof target, "/dev/%s", NODES[i]);
    attach(nodes[i], target);
  }
  mount_new("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC,
            "newinstance,ptmxmode=0666,mode=0620,gid=5");
  mount_new("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  attach(shm, "/dev/shm");
  if (symlink("/proc/self/fd", "/dev/fd") || symlink("/proc/self/fd/0", "/dev/stdin") ||
      symlink("/proc/self/fd/1", "/dev/stdout") || symlink("/proc/self/fd/2", "/dev/stderr") ||
      symlink("pts/ptmx", "/dev/ptmx")) die("links in", "/dev");
}

static int open_source(const struct mount_spec *m, unsigned number) {
  char path[4300];
  if (m->kind == MOUNT_TMPFS) return -1;
  if (m->kind == MOUNT_LUN) {
    snprintf(path, sizeof path, BUILD "/disk%u", number);
    mount_disk(m->lun, m->filesystem, path, m->readonly);
    return clone_tree(path);
  }
  if (strstr(m->source, "..")) errno = EINVAL, die("mount source", m->source);
  int error = mount_share();
  if (error) errno = error, die("mount of the", "share");
  snprintf(path, sizeof path, SHARE "/pod/%s", m->source);
  return clone_tree(path);
}

static void enter_root(void) {
  if (chdir(BUILD "/root") || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
      chdir("/")) die("change of the", "root");
}

void build_rootfs(const struct container *c, int report) {
  report_fd = report;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  uint64_t guard = c->privileged ? 0 : MOUNT_ATTR_NODEV;
  int error = 0;
  for (unsigned i = 0; i < c->mount_count && !error; i++)
    if (c->mounts[i].kind == MOUNT_SHARE) error = mount_share(); /* one for all containers */
  if (error) errno = error, die("mount of the", "share");
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
    die("mount", "namespace");
  build_root(c);
  int nodes[NODE_COUNT], *sources = calloc(c->mount_count + c->device_count + 1, sizeof *sources);
  char path[64];
  for (unsigned i = 0; i < NODE_COUNT; i++) {
    snprintf(path, sizeof path, "/dev/%s", NODES[i]);
    nodes[i] = clone_tree(path);
  }
  int shm = clone_tree("/dev/shm"), all = c->privileged ? clone_tree("/dev") : -1;
  for (unsigned i = 0; i < c->mount_count; i++) sources[i] = open_source(&c->mounts[i], i);
  for (unsigned i = 0; i < c->device_count; i++) {
    disk_path(c->devices[i].lun, path, sizeof path);
    if (c->devices[i].mode) chmod(path, c->devices[i].mode & 0777);
    sources[c->mount_count + i] = clone_tree(path);
  }
  enter_root();
  unsigned long sys = MS_NOSUID | MS_NODEV | MS_NOEXEC | (c->privileged ? 0 : MS_RDONLY);
  make_target("/proc", true);
  mount_new("sysfs", "/sys", sys, NULL);
  build_dev(c, nodes, shm, all);
  for (unsigned i = 0; i < c->mount_count; i++) {
    const struct mount_spec *m = &c->mounts[i];
    uint64_t set = guard | (m->readonly ? MOUNT_ATTR_RDONLY : 0);
    if (m->kind == MOUNT_TMPFS) {
      mount_new("tmpfs", m->target, MS_NOSUID | MS_NODEV | (m->readonly ? MS_RDONLY : 0),
                m->source);
      continue;
    }
    protect(sources[i], set, m->target);
    attach(sources[i], m->target);
  }
  for (unsigned i = 0; i < c->device_count; i++)
    attach(sources[c->mount_count + i], c->devices[i].path);
  if (c->command.cwd[0] == '/' && c->command.cwd[1]) { /* as every runtime makes it */
    struct stat about;
    make_parents(c->command.cwd);
    if (stat(c->command.cwd, &about) && mkdir(c->command.cwd, 0755)) die("mkdir", c->command.cwd);
  }
  tell(0, "", "");
  for (;;) pause(); /* until the agent holds the namespace */
}
