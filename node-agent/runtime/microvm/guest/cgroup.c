/* Control groups (v2) of containers: /sys/fs/cgroup/pod/<id>. */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define POD "/sys/fs/cgroup/pod"
enum {
  AGENT_MEMORY = 12 * 1024 * 1024, /* kept from containers, so that the agent and kernel go on */
  AGENT_PIDS = 64,                 /* and they cannot take the last process either */
};

static void path_of(char *path, size_t size, const char *id, const char *file) {
  snprintf(path, size, POD "/%s/%s", id, file);
}

static int set(const char *id, const char *file, const char *value) {
  char path[256];
  path_of(path, sizeof path, id, file);
  return write_file(path, value);
}

static int set_number(const char *id, const char *file, uint64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%llu", (unsigned long long)value);
  return set(id, file, value ? text : "max");
}

/* The value after `key` and a space, in a file of such lines, or of a single number. */
static uint64_t get(const char *id, const char *file, const char *key) {
  char path[256], text[8192];
  path_of(path, sizeof path, id, file);
  if (read_small_file(path, text, sizeof text) < 0) return 0;
  if (!key) return strtoull(text, NULL, 10);
  size_t length = strlen(key);
  for (char *line = text; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
    if (!strncmp(line, key, length) && line[length] == ' ')
      return strtoull(line + length, NULL, 10);
  return 0;
}

int cgroup_setup(void) {
  write_file("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids +io");
  if (mkdir(POD, 0755)) return -1;
  write_file(POD "/cgroup.subtree_control", "+cpu +memory +pids +io");
  struct sysinfo info;
  char threads[32];
  sysinfo(&info);
  uint64_t total = (uint64_t)info.totalram * info.mem_unit;
  set_number(".", "memory.max", total > 2 * AGENT_MEMORY ? total - AGENT_MEMORY : total);
  if (read_small_file("/proc/sys/kernel/threads-max", threads, sizeof threads) > 0)
    set_number(".", "pids.max", strtoull(threads, NULL, 10) - AGENT_PIDS);
  return 0;
}

int cgroup_create(const char *id) {
  char path[256];
  path_of(path, sizeof path, id, "");
  if (mkdir(path, 0755) && errno != EEXIST) return errno;
  set(id, "memory.oom.group", "1"); /* a container ends as a whole, as the kubelet has it */
  return 0;
}

int cgroup_limit(const char *id, const struct limits *l) {
  char text[64];
  int error = 0, failed;
  if (l->weight && (failed = set_number(id, "cpu.weight", l->weight))) error = failed;
  if (l->quota) snprintf(text, sizeof text, "%llu %llu", (unsigned long long)l->quota,
                         (unsigned long long)(l->period ? l->period : 100000));
  else strcpy(text, "max");
  if ((failed = set(id, "cpu.max", text))) error = failed;
  if ((failed = set_number(id, "memory.max", l->memory))) error = failed;
  set(id, "memory.swap.max", "0");
  if ((failed = set_number(id, "pids.max", l->pids))) error = failed;
  return error;
}

/* Of all containers together; what cgroup_setup keeps for the agent stays kept. */
void cgroup_limit_pod_pids(uint64_t count) {
  uint64_t most = get(".", "pids.max", NULL);
  if (!most || count < most) set_number(".", "pids.max", count);
}

void cgroup_join(const char *id) { set(id, "cgroup.procs", "0"); }

void cgroup_kill(const char *id) { set(id, "cgroup.kill", "1"); }

int cgroup_signal(const char *id, int number) {
  char path[256], text[32768];
  path_of(path, sizeof path, id, "cgroup.procs");
  if (read_small_file(path, text, sizeof text) < 0) return errno;
  for (char *at = text; *at;) {
    long pid = strtol(at, &at, 10);
    if (pid > 1) kill(pid, number);
    while (*at == '\n') at++;
  }
  return 0;
}

int cgroup_remove(const char *id) {
  char path[256];
  path_of(path, sizeof path, id, "");
  return rmdir(path) && errno != ENOENT ? errno : 0;
}

bool cgroup_oom_killed(const char *id) { return get(id, "memory.events", "oom_kill") > 0; }

void cgroup_stats(const char *id, struct cgroup_stats *s) {
  s->cpu_ns = get(id, "cpu.stat", "usage_usec") * 1000;
  s->usage = get(id, "memory.current", NULL);
  uint64_t inactive = get(id, "memory.stat", "inactive_file");
  s->working_set = s->usage > inactive ? s->usage - inactive : 0;
  s->rss = get(id, "memory.stat", "anon");
  s->pids = get(id, "pids.current", NULL);
}
