/* The guest's agent: process 1 of a microVM. What its files share. docs/microvm.md describes it. */
#ifndef GANTRY_AGENT_H
#define GANTRY_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROTOCOL_VERSION 1

/* Sizes are agreed with guest/channel.ts. */
enum {
  FRAME_HEADER = 20,
  FRAME_TRAILER = 8,
  MAX_HOST_PAYLOAD = 16 * 1024,  /* a reconnecting host sends this many zeros to end a cut frame */
  MAX_GUEST_PAYLOAD = 48 * 1024,
  MAX_REQUEST = 4 * 1024 * 1024, /* above what execve takes of arguments and environment */
  MAX_FILE = 1024 * 1024,        /* what readFile may ask for */
};

enum frame_type {
  HELLO = 1, REQUEST = 2, STDIN = 3, ACK = 4, PING = 5,
  WELCOME = 65, REPLY = 66, OUTPUT = 67, STDIN_ACK = 68, PONG = 69,
};
enum { FLAG_MORE = 1, FLAG_EOF = 1 };

enum operation {
  OP_CONFIGURE = 1, OP_CREATE, OP_START, OP_ATTACH, OP_EXEC, OP_SIGNAL, OP_UPDATE, OP_REMOVE,
  OP_STATS, OP_READ_FILE, OP_DIAL, OP_POWEROFF, OP_RESIZE, OP_RELEASE, OP_KILL,
};

enum { ID_SIZE = 80, MAX_CONTAINERS = 128, MAX_PROCESSES = 256, MAX_JOBS = 16 };

/* --- reading requests: every getter checks the bounds and marks the reader bad --------------- */
struct reader { uint8_t *at, *end; bool bad; };
uint8_t get_u8(struct reader *);
uint32_t get_u32(struct reader *);
uint64_t get_u64(struct reader *);
char *get_string(struct reader *);             /* within the request's memory, ends in NUL */
char **get_strings(struct reader *, unsigned *count); /* allocated, ends in NULL */
uint8_t *get_bytes(struct reader *, uint32_t *length); /* within the request's memory */

/* --- what a container is made of ------------------------------------------------------------- */
struct command {
  char **argv, **env, *cwd;
  uint32_t uid, gid, *groups;
  unsigned group_count;
  uint64_t capabilities;
  bool no_new_privileges, tty, input;
};
enum mount_kind { MOUNT_SHARE, MOUNT_LUN, MOUNT_TMPFS };
struct mount_spec {
  uint8_t kind;
  char *source, *filesystem, *target;
  uint32_t lun;
  bool readonly;
};
struct device_spec { uint32_t lun, mode; char *path; };
struct limits { uint64_t weight, quota, period, memory, pids; }; /* 0: none given */
enum writable { WRITABLE_NONE, WRITABLE_MEMORY, WRITABLE_LUN };
enum pid_namespace { PID_OWN, PID_POD, PID_CONTAINER };

struct container {
  bool used, ready, started;
  char id[ID_SIZE];
  uint8_t *memory;              /* the request that the strings below point into */
  uint32_t root_lun, writable_lun;
  char *root_filesystem;
  uint8_t writable, pid_namespace;
  bool readonly_root, privileged;
  struct command command;
  struct mount_spec *mounts;
  struct device_spec *devices;
  unsigned mount_count, device_count;
  struct limits limits;
  char *pid_target, **masked, **readonly_paths;
  uint8_t *filter;              /* seccomp: a BPF program; of length 0 for none */
  uint32_t filter_length;
  int mount_ns, pid_ns, cgroup_ns;
  uint32_t remove_request;      /* waits until all processes are gone */
  int64_t remove_deadline_ms;
};

/* --- processes and their streams ------------------------------------------------------------- */
enum channel { CHANNEL_STDOUT = 1, CHANNEL_STDERR = 2, CHANNEL_EXIT = 255 };
struct process {
  bool used, is_main, attached, exited, recorded, dial;
  uint32_t id, start_request;
  struct container *container;
  pid_t pid;
  int in, out, err, report;     /* report: the child's word on how exec went */
  bool tty, killed_by_oom;
  int code;
  int64_t exited_at_ms, drain_deadline_ms;
  uint8_t *log;                 /* records not acknowledged: u32 length, u8 channel, bytes */
  size_t log_length, log_capacity, log_sent; /* log_sent: offset of the next record to send */
  uint64_t first_sequence, sent_sequence;
  uint8_t *input;
  size_t input_length;
  uint64_t input_received, input_written;
  bool input_eof, input_ack_due, connecting;
};
extern struct container containers[MAX_CONTAINERS];
extern struct process processes[MAX_PROCESSES];

/* main.c */
int64_t wall_ms(void);
int64_t monotonic_ms(void);
void warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
int write_file(const char *path, const char *text);
ssize_t read_small_file(const char *path, char *buffer, size_t size);
void power_off(void);

/* channel.c */
extern int port;
void channel_open(void);
void channel_read(void);
bool channel_flush(void);             /* true while bytes wait for the port */
bool channel_connected(void);
void reply(uint32_t request, int error, const char *text, const void *data, size_t length);

/* requests.c */
void handle_request(uint32_t id, uint8_t *memory, size_t length); /* owns memory */
void read_command(struct reader *, struct command *);

/* process.c */
struct process *new_process(uint32_t id);
struct process *find_process(uint32_t id);
struct process *main_process(const struct container *);
void release_process(struct process *);
void acknowledge(struct process *, uint64_t sequence);
void add_input(struct process *, uint64_t offset, const uint8_t *, size_t, bool eof);
void rewind_processes(bool same_host);
size_t next_output(uint8_t *frame_payload, size_t space, uint32_t *process);
bool next_input_ack(uint32_t *process, uint64_t *written);
void process_ended(struct process *, int wait_status);
int dial(struct process *, uint16_t port_number);
struct pollfd;
unsigned poll_processes(struct pollfd *, unsigned space);
void serve_processes(const struct pollfd *, unsigned count);
int64_t process_deadline_ms(void);

/* container.c */
struct container *find_container(const char *id);
int create_container(uint32_t request, struct container *);
struct container *new_container(const char *id);
void free_container(struct container *);
int spawn(struct container *, struct command *, struct process *);
void serve_removals(void);
bool removals_wait(void);
bool reap_helper(pid_t pid, int status);
unsigned poll_jobs(struct pollfd *, unsigned space);
void serve_jobs(const struct pollfd *, unsigned count);

/* rootfs.c: runs in a child of the agent, never returns */
void build_rootfs(const struct container *, int report) __attribute__((noreturn));
int mount_share(void);

/* launch.c: runs in the child that becomes the container's process, never returns */
struct launch { struct container *container; struct command *command; bool is_main;
                int in, out, err, report; };
void launch(const struct launch *) __attribute__((noreturn));

/* cgroup.c */
int cgroup_setup(void);
int cgroup_create(const char *id);
int cgroup_limit(const char *id, const struct limits *);
void cgroup_limit_pod_pids(uint64_t count);
void cgroup_join(const char *id);
void cgroup_kill(const char *id);
int cgroup_signal(const char *id, int signal);
int cgroup_remove(const char *id);
bool cgroup_oom_killed(const char *id);
struct cgroup_stats { uint64_t cpu_ns, usage, working_set, rss, pids; };
void cgroup_stats(const char *id, struct cgroup_stats *);

/* network.c */
int configure_network(struct reader *, const char **failed);

#endif
