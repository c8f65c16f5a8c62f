/*
 * Starts a VMM with nothing but what it needs: its own user, its own namespaces with a tap as their
 * only interface, few rights; and gives one that runs to a pod.
 *   jail --run KEY=VALUE... -- PROGRAM ARGUMENT...   prints the program's pid once it runs
 *   jail --give PID KEY=VALUE...   the pod's cgroup; its tap into the pod's network namespace and
 *                     joined to the interface there; the pod's files, below its share
 *   jail --forget-code PID   gives back memory of translated code that QEMU has dropped
 *   jail --seal FD    makes a memory file unchangeable
 *   jail --tsc        prints the rate of the time stamp counter in kHz
 * vmm/jail.ts is its only user.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Agreed with vmm/jail.ts. */
enum { MEMORY_FD = 3, STATE_FD = 4, TAP_FD = 5, FIRST_FREE_FD = 6 };
#define TAP "gantry0"
#define POD_SHARE "/vm/share/pod"
/* Kernel interface newer than the C library's headers. Source: linux/mount.h. */
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#define MOVE_MOUNT_F_EMPTY_PATH 4
struct mount_attr { uint64_t attr_set, attr_clr, propagation, userns_fd; };
#endif
enum { RECURSIVE = 0x8000, NR_OPEN_TREE = 428, NR_MOVE_MOUNT = 429, NR_MOUNT_SETATTR = 442 };
enum { SEAL_ADD = 1033, SEAL_ALL_WRITES = 0x1 | 0x2 | 0x4 | 0x8, OPEN_FILES = 65536 };

static void __attribute__((noreturn)) die(const char *what, const char *which) {
  fprintf(stderr, "jail: %s %s: %s\n", what, which, strerror(errno));
  exit(1);
}

/* --- the tap, joined to the pod's interface by redirecting what arrives at either ------------ */

struct request { struct nlmsghdr header; struct tcmsg tc; char space[512]; };

static struct rtattr *add(struct request *m, int type, const void *data, size_t length) {
  struct rtattr *a = (void *)((char *)m + NLMSG_ALIGN(m->header.nlmsg_len));
  a->rta_type = type;
  a->rta_len = RTA_LENGTH(length);
  if (length) memcpy(RTA_DATA(a), data, length);
  m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
  return a;
}

static void close_nest(struct request *m, struct rtattr *nest) {
  nest->rta_len = (char *)m + m->header.nlmsg_len - (char *)nest;
}

static void begin(struct request *m, int type, int index) {
  memset(m, 0, sizeof *m);
  m->header.nlmsg_len = NLMSG_LENGTH(sizeof m->tc);
  m->header.nlmsg_type = type;
  m->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
  m->tc.tcm_ifindex = index;
}

static void talk(int channel, struct request *m, const char *what) {
  char buffer[4096];
  struct nlmsghdr *answer = (void *)buffer;
  if (send(channel, m, m->header.nlmsg_len, 0) < 0 || recv(channel, buffer, sizeof buffer, 0) < 0)
    die("netlink", what);
  errno = -((struct nlmsgerr *)NLMSG_DATA(answer))->error;
  if (answer->nlmsg_type == NLMSG_ERROR && errno) die("netlink", what);
}

static void redirect(int channel, int from, int to) {
  struct request m;
  begin(&m, RTM_NEWQDISC, from);
  m.tc.tcm_parent = TC_H_INGRESS;
  m.tc.tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0);
  add(&m, TCA_KIND, "ingress", 8);
  talk(channel, &m, "ingress qdisc");

  struct { struct tc_u32_sel sel; struct tc_u32_key key; } every = {0};
  every.sel.flags = TC_U32_TERMINAL;
  every.sel.nkeys = 1;
  struct tc_mirred mirred = {.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to};
  begin(&m, RTM_NEWTFILTER, from);
  m.tc.tcm_parent = TC_H_MAKE(TC_H_INGRESS, 0);
  m.tc.tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL));
  add(&m, TCA_KIND, "u32", 4);
  struct rtattr *options = add(&m, TCA_OPTIONS, NULL, 0);
  add(&m, TCA_U32_SEL, &every, sizeof every);
  struct rtattr *actions = add(&m, TCA_U32_ACT, NULL, 0), *first = add(&m, 1, NULL, 0);
  add(&m, TCA_ACT_KIND, "mirred", 7);
  struct rtattr *action = add(&m, TCA_ACT_OPTIONS, NULL, 0);
  add(&m, TCA_MIRRED_PARMS, &mirred, sizeof mirred);
  close_nest(&m, action);
  close_nest(&m, first);
  close_nest(&m, actions);
  close_nest(&m, options);
  talk(channel, &m, "redirect");
}

static void set_up(int control, const char *name, int mtu) {
  struct ifreq request = {0};
  snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
  request.ifr_mtu = mtu;
  if (mtu && ioctl(control, SIOCSIFMTU, &request)) die("mtu of", name);
  if (ioctl(control, SIOCGIFFLAGS, &request)) die("interface", name);
  request.ifr_flags |= IFF_UP;
  if (ioctl(control, SIOCSIFFLAGS, &request)) die("interface", name);
}

/* The tap lives as long as the program that holds its fd, in whatever namespace it is. */
static void make_tap(void) {
  struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
  snprintf(request.ifr_name, IFNAMSIZ, TAP);
  int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
  if (tap < 0 || ioctl(tap, TUNSETIFF, &request)) die("tap", TAP);
  if (tap != TAP_FD && (dup2(tap, TAP_FD) < 0 || close(tap))) die("tap", TAP);
}

static int netlink(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE); }

/* From the namespace of the tap into that of the pod, where it joins the pod's interface. */
static void give_tap(int from, int to, const char *interface) {
  if (setns(from, CLONE_NEWNET)) die("network namespace", "of the VM");
  struct request m;
  begin(&m, RTM_NEWLINK, if_nametoindex(TAP)); /* ifinfomsg has its index where tcmsg has it */
  m.header.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg));
  m.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  add(&m, IFLA_NET_NS_FD, &to, sizeof to);
  talk(netlink(), &m, "move of the tap");
  if (setns(to, CLONE_NEWNET)) die("network namespace", "of the pod");
  /* The namespace's own address of this link would only solicit routers in the guest's ear. */
  int fd = open("/proc/sys/net/ipv6/conf/" TAP "/disable_ipv6", O_WRONLY | O_CLOEXEC);
  if (fd >= 0 && (write(fd, "1", 1) < 0 || close(fd))) die("ipv6 of", TAP);
  struct ifreq request = {0};
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  snprintf(request.ifr_name, IFNAMSIZ, "%s", interface);
  if (ioctl(control, SIOCGIFMTU, &request)) die("interface", interface);
  set_up(control, TAP, request.ifr_mtu);
  int channel = netlink();
  int outer = if_nametoindex(interface), inner = if_nametoindex(TAP);
  redirect(channel, outer, inner);
  redirect(channel, inner, outer);
}

/* --- what it sees of the host's files -------------------------------------------------------- */

static void bind_mount(const char *from, const char *to, unsigned long flags) {
  if (mount(from, to, NULL, MS_BIND | (flags & MS_REC), NULL)) die("mount", from);
  const unsigned long readonly = MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID;
  if (flags & MS_RDONLY && mount(NULL, to, NULL, readonly, NULL))
    die("mount", from);
}

/* /lib is a folder, or a link into /usr. */
static void show_system(const char *name) {
  char from[64], link[256];
  snprintf(from, sizeof from, "/%s", name);
  ssize_t length = readlink(from, link, sizeof link - 1);
  if (length > 0) {
    link[length] = 0;
    if (symlink(link, name)) die("link", name);
  } else if (!access(from, F_OK)) {
    if (mkdir(name, 0755)) die("mkdir", name);
    bind_mount(from, name, MS_RDONLY);
  }
}

static void show_file(const char *path) {
  if (access(path, F_OK)) return;
  int fd = open(path + 1, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) die("file", path);
  close(fd);
  bind_mount(path, path + 1, 0);
}

static void show_folder(const char *from, const char *to, unsigned long flags) {
  if (mkdir(to, 0755)) die("mkdir", to);
  bind_mount(from, to, flags);
}

/* What the host mounts later below the VM's folder is seen: it is a slave. */
static void build_root(const char *vm, const char *files) {
  static const char *const devices[] = {"/dev/null", "/dev/urandom", "/dev/kvm"};
  char root[4096];
  snprintf(root, sizeof root, "%s/root", vm);
  mkdir(root, 0755);
  if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) die("mount", "namespace");
  if (mount("root", root, "tmpfs", MS_NOSUID, "mode=0755,size=1m") || chdir(root))
    die("mount", root);
  show_system("usr");
  show_system("lib");
  show_system("lib64");
  if (mkdir("dev", 0755) || mkdir("proc", 0755) || mkdir("etc", 0755)) die("mkdir", root);
  for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) show_file(devices[i]);
  show_file("/etc/ld.so.cache");
  show_folder(vm, "vm", MS_REC);
  if (files) show_folder(files, "guest", MS_RDONLY);
  if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
    die("root", root);
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID, NULL)) die("root", root);
}

/* --- rights ---------------------------------------------------------------------------------- */

/* Files of the share belong to whatever users the pod has; nothing else needs a right. */
static const int KEPT[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID};
enum { KEPT_COUNT = sizeof KEPT / sizeof *KEPT };

static void drop_rights(unsigned uid) {
  uint32_t kept = 0;
  for (unsigned i = 0; i < KEPT_COUNT; i++) kept |= 1u << KEPT[i];
  for (int number = 0; number < 64; number++)
    if (!(number < 32 && kept >> number & 1)) prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
  if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setgroups(0, NULL) || setresgid(uid, uid, uid) ||
      setresuid(uid, uid, uid)) die("user", "of the VMM");
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct sets[2] = {{kept, kept, kept}, {0, 0, 0}};
  if (syscall(SYS_capset, &header, sets)) die("capabilities", "of the VMM");
  for (unsigned i = 0; i < KEPT_COUNT; i++)
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, KEPT[i], 0, 0)) die("capabilities", "kept");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs", "");
  const struct rlimit none = {0, 0}, files = {OPEN_FILES, OPEN_FILES};
  setrlimit(RLIMIT_CORE, &none);
  setrlimit(RLIMIT_NOFILE, &files);
}

/* --- commands -------------------------------------------------------------------------------- */

static void join_cgroup(const char *procs_file, const char *pid) {
  int fd = open(procs_file, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, pid, strlen(pid)) < 0) die("cgroup", procs_file);
  close(fd);
}

static void make_memory(const char *mib) {
  int fd = syscall(SYS_memfd_create, "gantry-template", 2 /* MFD_ALLOW_SEALING */);
  if (fd < 0 || ftruncate(fd, strtoll(mib, NULL, 10) << 20)) die("memory of", mib);
  if (fd != MEMORY_FD && (dup2(fd, MEMORY_FD) < 0 || close(fd))) die("memory of", mib);
}

struct options { const char *pid, *netns, *interface, *vm, *share, *files, *uid, *memory, *preload; };

static char **read_options(char **at, struct options *o) {
  for (; *at && strcmp(*at, "--"); at++) {
    char *value = strchr(*at, '=');
    if (!value) errno = EINVAL, die("option", *at);
    *value++ = 0;
    if (!strcmp(*at, "cgroup")) join_cgroup(value, o->pid);
    else if (!strcmp(*at, "netns")) o->netns = value;
    else if (!strcmp(*at, "interface")) o->interface = value;
    else if (!strcmp(*at, "vm")) o->vm = value;
    else if (!strcmp(*at, "share")) o->share = value;
    else if (!strcmp(*at, "files")) o->files = value;
    else if (!strcmp(*at, "uid")) o->uid = value;
    else if (!strcmp(*at, "memory")) o->memory = value;
    else if (!strcmp(*at, "preload")) o->preload = value; /* a path inside */
    else errno = EINVAL, die("option", *at);
  }
  return *at ? at + 1 : at;
}

/* The pod's tree, with what is mounted below it from now on; nothing goes the other way. */
static int open_share(const char *path) {
  struct mount_attr attr = {.propagation = MS_SLAVE};
  int tree = syscall(NR_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC | RECURSIVE);
  if (tree < 0 || syscall(NR_MOUNT_SETATTR, tree, "", AT_EMPTY_PATH | RECURSIVE, &attr, sizeof attr))
    die("share", path);
  return tree;
}

static int open_namespace(const char *pid, const char *kind) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%.16s/ns/%s", pid, kind);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die("namespace", path);
  return fd;
}

static int give(const char *pid, char **arguments) {
  struct options o = {.pid = pid};
  read_options(arguments, &o);
  if (!o.netns || !o.interface || !o.share) errno = EINVAL, die("options", "--give");
  int tree = open_share(o.share), files = open_namespace(pid, "mnt");
  int pod = open(o.netns, O_RDONLY | O_CLOEXEC);
  if (pod < 0) die("network namespace", o.netns);
  give_tap(open_namespace(pid, "net"), pod, o.interface);
  if (setns(files, CLONE_NEWNS)) die("mount namespace", "of the VM");
  if (syscall(NR_MOVE_MOUNT, tree, "", AT_FDCWD, POD_SHARE, MOVE_MOUNT_F_EMPTY_PATH))
    die("share", o.share);
  return 0;
}

static int run(char **arguments) {
  struct options o = {.pid = "0"};
  char **program = read_options(arguments, &o);
  if (!o.vm || !o.uid || !*program) errno = EINVAL, die("options", "--run");
  if (mount(o.vm, o.vm, NULL, MS_BIND, NULL) || mount(NULL, o.vm, NULL, MS_SHARED, NULL))
    die("mount", o.vm);
  if (o.memory) make_memory(o.memory);
  if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID))
    die("namespaces", "new");
  make_tap();
  build_root(o.vm, o.files);
  int ready[2];
  char byte;
  if (pipe2(ready, O_CLOEXEC)) die("pipe", "");
  pid_t pid = fork();
  if (pid < 0) die("fork", "");
  if (pid == 0) {
    close(ready[0]);
    setsid();
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
      die("mount", "/proc");
    drop_rights(strtoul(o.uid, NULL, 10));
    int log = open("/vm/qemu.log", O_CREAT | O_APPEND | O_WRONLY | O_CLOEXEC, 0600);
    if (log < 0 || dup2(log, 1) < 0) die("open", "qemu.log");
    syscall(436 /* close_range */, FIRST_FREE_FD, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    if (write(ready[1], "x", 1) < 0 || dup2(log, 2) < 0) die("open", "qemu.log");
    if (o.preload) setenv("LD_PRELOAD", o.preload, 1);
    setenv("MALLOC_ARENA_MAX", "1", 1); /* one for each thread would cost 3 MB */
    execv(program[0], program);
    _exit(127);
  }
  close(ready[1]);
  if (read(ready[0], &byte, 1) != 1) return 1; /* the child has said why */
  printf("%d\n", pid);
  return 0;
}

/*
 * The memory of code that QEMU has translated and just dropped. The beginning of the buffer holds
 * QEMU's own way into translated code.
 */
static int forget_code(const char *pid) {
  enum { KEPT_BYTES = 64 * 1024 };
  char path[80], line[512];
  unsigned long begin, end;
  snprintf(path, sizeof path, "/proc/%.16s/maps", pid);
  FILE *maps = fopen(path, "re");
  if (!maps) die("open", path);
  while (fgets(line, sizeof line, maps)) {
    char flags[8] = "";
    if (sscanf(line, "%lx-%lx %7s", &begin, &end, flags) != 3 || !strstr(line, "/memfd:tcg-jit") ||
        flags[1] != 'w' || end - begin <= KEPT_BYTES) continue;
    snprintf(path, sizeof path, "/proc/%.16s/map_files/%lx-%lx", pid, begin, end);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, KEPT_BYTES,
                            end - begin - KEPT_BYTES)) die("free", path);
    close(fd);
  }
  return 0;
}

static int seal(const char *fd) {
  if (fcntl(atoi(fd), SEAL_ADD, SEAL_ALL_WRITES)) die("seal", fd);
  return 0;
}

static uint64_t tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
  return (uint64_t)high << 32 | low;
}

static uint64_t raw_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC_RAW, &t);
  return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int print_tsc(void) {
  uint64_t ns = raw_ns(), ticks = tsc();
  usleep(50 * 1000);
  ticks = tsc() - ticks;
  ns = raw_ns() - ns;
  printf("%llu\n", (unsigned long long)(ticks * 1000000 / ns));
  return 0;
}

int main(int count, char **arguments) {
  if (count >= 2 && !strcmp(arguments[1], "--run")) return run(arguments + 2);
  if (count >= 3 && !strcmp(arguments[1], "--give")) return give(arguments[2], arguments + 3);
  if (count == 3 && !strcmp(arguments[1], "--forget-code")) return forget_code(arguments[2]);
  if (count == 3 && !strcmp(arguments[1], "--seal")) return seal(arguments[2]);
  if (count == 2 && !strcmp(arguments[1], "--tsc")) return print_tsc();
  fprintf(stderr, "jail: no such command\n");
  return 2;
}
