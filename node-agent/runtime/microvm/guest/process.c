/*
 * Processes that the host knows, and their streams. What a process writes is kept as numbered
 * records until the host acknowledges them; a full log stops reading, so that the process waits.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
  LOG_LIMIT = 128 * 1024,   /* per process; at 2 ms a round trip this is 64 MB/s */
  READ_SIZE = 16 * 1024,
  RECORD_HEADER = 5,
  INPUT_LIMIT = 64 * 1024,  /* agreed with guest/streams.ts */
  DRAIN_MS = 2000,          /* what an ended process's children may go on writing */
};

struct process processes[MAX_PROCESSES];

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

struct process *new_process(uint32_t id) {
  if (find_process(id)) return NULL;
  for (unsigned i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (p->used) continue;
    *p = (struct process){.used = true, .attached = true, .id = id, .in = -1, .out = -1, .err = -1,
                          .report = -1, .first_sequence = 1, .sent_sequence = 1};
    return p;
  }
  return NULL;
}

struct process *find_process(uint32_t id) {
  for (unsigned i = 0; i < MAX_PROCESSES; i++)
    if (processes[i].used && processes[i].id == id) return &processes[i];
  return NULL;
}

struct process *main_process(const struct container *c) {
  for (unsigned i = 0; i < MAX_PROCESSES; i++)
    if (processes[i].used && processes[i].is_main && processes[i].container == c)
      return &processes[i];
  return NULL;
}

void release_process(struct process *p) {
  if (p->out == p->in) p->out = -1; /* a terminal or a socket is both */
  close_fd(&p->in);
  close_fd(&p->out);
  close_fd(&p->err);
  close_fd(&p->report);
  free(p->log);
  free(p->input);
  p->used = false;
}

/* --- output ---------------------------------------------------------------------------------- */

static bool has_room(const struct process *p) {
  return p->log_length + RECORD_HEADER + READ_SIZE <= LOG_LIMIT;
}

static void record(struct process *p, uint8_t channel, const void *bytes, uint32_t length) {
  size_t needed = p->log_length + RECORD_HEADER + length;
  if (needed > p->log_capacity) {
    size_t capacity = p->log_capacity ? p->log_capacity : 4096;
    while (capacity < needed) capacity *= 2;
    uint8_t *grown = realloc(p->log, capacity);
    if (!grown) return warn("no memory for the output of process %u", p->id);
    p->log = grown;
    p->log_capacity = capacity;
  }
  uint8_t *at = p->log + p->log_length;
  memcpy(at, &length, 4);
  at[4] = channel;
  memcpy(at + RECORD_HEADER, bytes, length);
  p->log_length = needed;
}

static uint32_t record_length(const struct process *p, size_t offset) {
  uint32_t length;
  memcpy(&length, p->log + offset, 4);
  return RECORD_HEADER + length;
}

void acknowledge(struct process *p, uint64_t sequence) {
  size_t gone = 0;
  while (gone < p->log_sent && p->first_sequence <= sequence) {
    /* How a container ended is told until it is removed: the next host may not know it yet. */
    if (p->is_main && p->log[gone + 4] == CHANNEL_EXIT) break;
    gone += record_length(p, gone);
    p->first_sequence++;
  }
  if (!gone) return;
  memmove(p->log, p->log + gone, p->log_length - gone);
  p->log_length -= gone;
  p->log_sent -= gone;
  if (!p->log_length) {
    free(p->log);
    p->log = NULL;
    p->log_capacity = 0;
  }
}

/* Streams take turns, one record each. */
size_t next_output(uint8_t *payload, size_t space, uint32_t *id) {
  static unsigned turn;
  for (unsigned i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[turn++ % MAX_PROCESSES];
    if (!p->used || !p->attached || p->start_request || p->log_sent == p->log_length) continue;
    size_t size = record_length(p, p->log_sent);
    if (size - RECORD_HEADER + 9 > space) continue;
    memcpy(payload, &p->sent_sequence, 8);
    memcpy(payload + 8, p->log + p->log_sent + 4, size - 4);
    p->log_sent += size;
    p->sent_sequence++;
    *id = p->id;
    return size - RECORD_HEADER + 9;
  }
  return 0;
}

/* A new connection gets again what it has not acknowledged. Another host has no use for the execs
 * and connections of the one before it, and asks for the containers' streams itself. */
void rewind_processes(bool same_host) {
  for (unsigned i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->used) continue;
    p->log_sent = 0;
    p->sent_sequence = p->first_sequence;
    p->input_ack_due = true;
    if (same_host) continue;
    p->start_request = 0;
    p->attached = false;
    if (p->is_main) continue;
    if (p->dial || p->exited) release_process(p);
    else if (p->pid > 0 && kill(-p->pid, SIGKILL)) kill(p->pid, SIGKILL);
  }
}

static void record_exit(struct process *p) {
  uint8_t body[13];
  int32_t code = p->code;
  memcpy(body, &code, 4);
  body[4] = p->killed_by_oom;
  memcpy(body + 5, &p->exited_at_ms, 8);
  record(p, CHANNEL_EXIT, body, sizeof body);
  p->recorded = true;
  close_fd(&p->err);
  if (p->out == p->in) p->out = -1;
  close_fd(&p->in);
  close_fd(&p->out);
  if (!p->attached && !p->is_main) release_process(p);
}

/* Its end is told when everything it wrote was read, or its children had their time. */
static void settle(struct process *p) {
  if (!p->exited || p->recorded) return;
  bool drained = p->out < 0 && p->err < 0;
  if (drained || (p->drain_deadline_ms <= monotonic_ms() && has_room(p))) record_exit(p);
}

void process_ended(struct process *p, int status) {
  p->exited = true;
  p->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  p->exited_at_ms = wall_ms();
  p->drain_deadline_ms = monotonic_ms() + DRAIN_MS;
  if (p->container && p->code) p->killed_by_oom = cgroup_oom_killed(p->container->id);
  if (p->is_main) cgroup_kill(p->container->id);
}

int64_t process_deadline_ms(void) {
  int64_t first = 0;
  for (unsigned i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->used || !p->exited || p->recorded) continue;
    if (p->drain_deadline_ms <= monotonic_ms() && !has_room(p)) continue; /* the host's turn */
    if (!first || p->drain_deadline_ms < first) first = p->drain_deadline_ms;
  }
  return first;
}

/* --- input ----------------------------------------------------------------------------------- */

void add_input(struct process *p, uint64_t offset, const uint8_t *bytes, size_t length, bool eof) {
  if (offset > p->input_received || p->input_eof) return; /* sent again by a host that reconnects */
  uint64_t known = p->input_received - offset;
  if (known > length) return;
  bytes += known;
  length -= known;
  if (p->input_length + length > INPUT_LIMIT) return; /* a host that does not keep to the window */
  if (length) {
    uint8_t *grown = realloc(p->input, p->input_length + length);
    if (!grown) return;
    p->input = grown;
    memcpy(grown + p->input_length, bytes, length);
    p->input_length += length;
    p->input_received += length;
  }
  p->input_eof = eof;
}

static void end_input(struct process *p) {
  if (p->in < 0) return;
  if (p->dial) shutdown(p->in, SHUT_WR);
  else if (p->tty) {
    const char end_of_file = 4; /* what a user's Ctrl-D sends */
    if (write(p->in, &end_of_file, 1) < 0) return;
  } else close_fd(&p->in);
}

static void took_input(struct process *p, size_t length) {
  p->input_written += length;
  p->input_length -= length;
  p->input_ack_due = true;
  memmove(p->input, p->input + length, p->input_length);
  if (!p->input_length) {
    free(p->input);
    p->input = NULL;
  }
}

static void feed(struct process *p) {
  if (p->input_length) {
    ssize_t wrote = p->in < 0 ? -1 : write(p->in, p->input, p->input_length);
    if (wrote > 0) took_input(p, wrote);
    else if (p->in < 0 || (errno != EAGAIN && errno != EINTR)) {
      took_input(p, p->input_length); /* nobody reads it any more */
      if (p->in >= 0 && !p->tty && !p->dial) close_fd(&p->in);
    }
  }
  if (p->input_eof && !p->input_length) {
    end_input(p);
    p->input_eof = false;
    p->input_written++; /* the end counts as one byte of the stream */
    p->input_received++;
    p->input_ack_due = true;
  }
}

bool next_input_ack(uint32_t *id, uint64_t *written) {
  for (unsigned i = 0; i < MAX_PROCESSES; i++) {
    struct process *p = &processes[i];
    if (!p->used || !p->attached || p->start_request || !p->input_ack_due) continue;
    p->input_ack_due = false;
    *id = p->id;
    *written = p->input_written;
    return true;
  }
  return false;
}

/* --- connections to the guest's own loopback ------------------------------------------------- */

static int connect_loopback(struct process *p, uint16_t number, bool six) {
  struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(number),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(number),
                             .sin6_addr = IN6ADDR_LOOPBACK_INIT};
  p->in = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (p->in < 0) return errno;
  int failed = six ? connect(p->in, (void *)&to6, sizeof to6)
                   : connect(p->in, (void *)&to4, sizeof to4);
  if (!failed) return fcntl(p->in, F_SETFL, O_NONBLOCK) ? errno : 0;
  int error = errno;
  close_fd(&p->in);
  return error;
}

/* Connecting to loopback never waits for a network: it succeeds or is refused at once. */
int dial(struct process *p, uint16_t number) {
  p->dial = true;
  int error = connect_loopback(p, number, false);
  if (error && !connect_loopback(p, number, true)) error = 0;
  if (error) return error;
  p->out = p->in;
  uint32_t request = p->start_request;
  p->start_request = 0;
  reply(request, 0, NULL, NULL, 0);
  return 0;
}

/* --- the loop's part ------------------------------------------------------------------------- */

static void read_output(struct process *p, int *fd, uint8_t channel) {
  static uint8_t buffer[READ_SIZE];
  if (!has_room(p)) return;
  ssize_t got = read(*fd, buffer, sizeof buffer);
  if (got > 0) return record(p, channel, buffer, got);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (*fd == p->in) *fd = -1; /* still written to */
  else close_fd(fd);
  if (p->dial && !p->exited) process_ended(p, 0);
}

/* The child says what went wrong before its program ran; an end without a word means it runs. */
static void read_report(struct process *p) {
  char message[512];
  union { struct cmsghdr align; char space[CMSG_SPACE(sizeof(int))]; } control;
  struct iovec io = {message, sizeof message - 1};
  struct msghdr header = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control,
                          .msg_controllen = sizeof control};
  ssize_t got = recvmsg(p->report, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  struct cmsghdr *passed = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;
  if (passed && passed->cmsg_type == SCM_RIGHTS) {
    memcpy(&p->in, CMSG_DATA(passed), sizeof(int)); /* the terminal's other end */
    fcntl(p->in, F_SETFL, O_NONBLOCK);
    p->out = p->in;
    return;
  }
  uint32_t request = p->start_request;
  p->start_request = 0;
  close_fd(&p->report);
  if (got > 4) {
    int32_t error;
    memcpy(&error, message, 4);
    message[got] = 0;
    reply(request, error, message + 4, NULL, 0);
    if (p->is_main) {
      p->container->started = false;
      release_process(p);
    } else {
      p->attached = false; /* released when it is reaped */
      if (p->exited) release_process(p);
    }
  } else {
    reply(request, 0, NULL, NULL, 0);
  }
}

unsigned poll_processes(struct pollfd *fds, unsigned space) {
  unsigned n = 0;
  for (unsigned i = 0; i < MAX_PROCESSES && n + 4 <= space; i++) {
    struct process *p = &processes[i];
    if (!p->used) continue;
    feed(p);
    settle(p);
    if (!p->used) continue;
    bool room = has_room(p);
    fds[n++] = (struct pollfd){.fd = p->report, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = room ? p->out : -1, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = room ? p->err : -1, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = p->input_length ? p->in : -1, .events = POLLOUT};
  }
  return n;
}

void serve_processes(const struct pollfd *fds, unsigned count) {
  unsigned n = 0;
  for (unsigned i = 0; i < MAX_PROCESSES && n + 4 <= count; i++) {
    struct process *p = &processes[i];
    if (!p->used) continue;
    bool report = fds[n].revents, out = fds[n + 1].revents, err = fds[n + 2].revents;
    n += 4;
    if (report) read_report(p);
    if (p->used && out && p->out >= 0) read_output(p, &p->out, CHANNEL_STDOUT);
    if (p->used && err && p->err >= 0) read_output(p, &p->err, CHANNEL_STDERR);
  }
}
