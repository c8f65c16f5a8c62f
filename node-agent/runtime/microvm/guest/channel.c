/*
 * The byte stream to the host: a virtio-serial port that carries frames (guest/channel.ts).
 * A host that connects says HELLO with a nonce; from then on every frame both ways starts and ends
 * with it. So bytes of an earlier connection are never taken for frames of this one, and nothing
 * that a container prints can look like a frame to a host that reconnects in the middle of one.
 */
#define _GNU_SOURCE
#include "agent.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static const uint8_t HELLO_MAGIC[8] = {'G', 'A', 'N', 'T', 'R', 'Y', 0, 1};
enum { HELLO_SIZE = 2 + 8 + 8 + 8 + 64, MAX_REPLIES = 512 };
/* Smaller errors of the clock are slewed away, so that time never jumps back under a program. */
static const int64_t STEP_NS = 250 * 1000 * 1000;

int port = -1;
static bool session;
static uint8_t nonce[8], instance[8];
static uint8_t in[FRAME_HEADER + MAX_HOST_PAYLOAD + FRAME_TRAILER];
static size_t in_length;
static uint8_t out[FRAME_HEADER + MAX_GUEST_PAYLOAD + FRAME_TRAILER];
static size_t out_length, out_done;
static bool welcome_due, pong_due;

struct answer { struct answer *next; uint32_t request; size_t length, sent; uint8_t data[]; };
static struct answer *first_answer, **last_answer = &first_answer;
static unsigned answer_count;
static struct { uint32_t id; uint8_t *data; size_t length; } partial; /* a request of many frames */

void channel_open(void) {
  for (int tries = 0; tries < 5000 && port < 0; tries++) {
    port = open("/dev/vport0p1", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (port < 0) port = open("/dev/vport1p1", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (port < 0) usleep(1000);
  }
  /* SIGIO tells when a host comes or goes; poll alone would have to spin on a hung up port. */
  if (port >= 0 && (fcntl(port, F_SETOWN, getpid()) || fcntl(port, F_SETFL, O_NONBLOCK | O_ASYNC)))
    warn("port: %s", strerror(errno));
  if (port < 0) warn("no virtio-serial port: the host cannot reach this guest");
}

bool channel_connected(void) {
  struct pollfd fd = {.fd = port, .events = POLLIN};
  poll(&fd, 1, 0);
  return !(fd.revents & POLLHUP) || (fd.revents & POLLIN);
}

static void forget_answers(void) {
  while (first_answer) {
    struct answer *gone = first_answer;
    first_answer = gone->next;
    free(gone);
  }
  last_answer = &first_answer;
  answer_count = 0;
}

void reply(uint32_t request, int error, const char *text, const void *data, size_t length) {
  if (!session || answer_count >= MAX_REPLIES) return; /* the host bounds what it asks at once */
  uint32_t text_length = text ? strlen(text) : 0;
  struct answer *a = malloc(sizeof *a + 8 + text_length + length);
  if (!a) return;
  uint32_t code = error;
  *a = (struct answer){.request = request, .length = 8 + text_length + length};
  memcpy(a->data, &code, 4);
  memcpy(a->data + 4, &text_length, 4);
  if (text_length) memcpy(a->data + 8, text, text_length);
  if (length) memcpy(a->data + 8 + text_length, data, length);
  *last_answer = a;
  last_answer = &a->next;
  answer_count++;
}

/* --- host to guest --------------------------------------------------------------------------- */

static void set_clock(int64_t host_ns) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t difference = host_ns - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
  if (difference > STEP_NS || difference < -STEP_NS) {
    struct timespec right = {.tv_sec = host_ns / 1000000000, .tv_nsec = host_ns % 1000000000};
    clock_settime(CLOCK_REALTIME, &right);
  } else {
    struct timeval slew = {.tv_usec = difference / 1000};
    adjtime(&slew, NULL);
  }
}

/* Clones of one template share the state of the generator until the host adds to it. */
static void reseed(const uint8_t bytes[64]) {
  struct { struct rand_pool_info info; uint8_t bytes[64]; } pool;
  pool.info.entropy_count = 512;
  pool.info.buf_size = 64;
  memcpy(pool.info.buf, bytes, 64);
  int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, RNDADDENTROPY, &pool) || ioctl(fd, RNDRESEEDCRNG))
    warn("random numbers not reseeded: %s", strerror(errno));
  close(fd);
}

static void hello(const uint8_t *payload) {
  uint16_t version;
  int64_t host_ns;
  memcpy(&version, payload, 2);
  memcpy(nonce, payload + 2, 8);
  bool same_host = session && !memcmp(instance, payload + 10, 8);
  memcpy(instance, payload + 10, 8);
  memcpy(&host_ns, payload + 18, 8);
  set_clock(host_ns);
  reseed(payload + 26);
  session = true;
  welcome_due = true;
  pong_due = false;
  out_length = out_done = 0;
  forget_answers();
  free(partial.data);
  memset(&partial, 0, sizeof partial);
  rewind_processes(same_host);
}

static void request_frame(uint32_t id, uint8_t flags, const uint8_t *payload, uint32_t length) {
  if (partial.data && partial.id != id) return; /* one at a time; the host keeps to it */
  if (partial.length + length > MAX_REQUEST) {
    reply(id, E2BIG, "request too large", NULL, 0);
    free(partial.data);
    memset(&partial, 0, sizeof partial);
    return;
  }
  uint8_t *grown = realloc(partial.data, partial.length + length + 1);
  if (!grown) return reply(id, ENOMEM, "the guest has no memory for the request", NULL, 0);
  memcpy(grown + partial.length, payload, length);
  partial.id = id;
  partial.data = grown;
  partial.length += length;
  if (flags & FLAG_MORE) return;
  uint8_t *data = partial.data;
  size_t size = partial.length;
  memset(&partial, 0, sizeof partial);
  handle_request(id, data, size);
}

static void frame(uint8_t type, uint8_t flags, uint32_t id, uint8_t *payload, uint32_t length) {
  struct process *process;
  uint64_t number = 0;
  if (length >= 8) memcpy(&number, payload, 8);
  switch (type) {
  case REQUEST:
    request_frame(id, flags, payload, length);
    return;
  case STDIN:
    if (length >= 8 && (process = find_process(id)))
      add_input(process, number, payload + 8, length - 8, flags & FLAG_EOF);
    return;
  case ACK:
    if (length >= 8 && (process = find_process(id))) acknowledge(process, number);
    return;
  case PING:
    if (length >= 8) set_clock(number);
    pong_due = true;
    return;
  }
}

/* Takes one frame off the front of `in`; false when more bytes are needed. */
static bool parse(void) {
  size_t skip = 0;
  bool is_hello = false;
  for (; skip + 8 <= in_length; skip++) {
    is_hello = !memcmp(in + skip, HELLO_MAGIC, 8);
    if (is_hello || (session && !memcmp(in + skip, nonce, 8))) break;
  }
  if (skip) memmove(in, in + skip, in_length -= skip);
  if (in_length < FRAME_HEADER) return false;
  uint32_t id, length;
  memcpy(&id, in + 12, 4);
  memcpy(&length, in + 16, 4);
  if (length > MAX_HOST_PAYLOAD) {
    in[0] ^= 0xff; /* no frame: look for the next */
    return true;
  }
  size_t whole = FRAME_HEADER + length + FRAME_TRAILER;
  if (in_length < whole) return false;
  uint8_t type = in[8], flags = in[9];
  bool complete = !memcmp(in + FRAME_HEADER + length, in, FRAME_TRAILER);
  if (complete && is_hello && type == HELLO && length == HELLO_SIZE) hello(in + FRAME_HEADER);
  else if (complete && !is_hello) frame(type, flags, id, in + FRAME_HEADER, length);
  memmove(in, in + whole, in_length -= whole);
  return true;
}

void channel_read(void) {
  ssize_t got = read(port, in + in_length, sizeof in - in_length);
  if (got <= 0) return;
  in_length += got;
  while (parse()) continue;
}

/* --- guest to host --------------------------------------------------------------------------- */

static void finish(uint8_t type, uint8_t flags, uint32_t id, uint32_t length) {
  memcpy(out, nonce, 8);
  memset(out + 8, 0, 4);
  out[8] = type;
  out[9] = flags;
  memcpy(out + 12, &id, 4);
  memcpy(out + 16, &length, 4);
  memcpy(out + FRAME_HEADER + length, nonce, 8);
  out_length = FRAME_HEADER + length + FRAME_TRAILER;
  out_done = 0;
}

static size_t write_welcome(uint8_t *payload) {
  uint16_t version = PROTOCOL_VERSION;
  memcpy(payload, &version, 2);
  struct utsname name;
  uname(&name);
  size_t length = strlen(name.release);
  memcpy(payload + 2, name.release, length);
  return 2 + length;
}

/* Answers go before output: a host knows a process before it hears of it. */
static bool next_frame(void) {
  uint8_t *payload = out + FRAME_HEADER;
  uint32_t id = 0;
  uint64_t written;
  size_t length;
  if (welcome_due) {
    welcome_due = false;
    finish(WELCOME, 0, 0, write_welcome(payload));
  } else if (first_answer) {
    struct answer *a = first_answer;
    size_t part = a->length - a->sent < MAX_GUEST_PAYLOAD ? a->length - a->sent : MAX_GUEST_PAYLOAD;
    memcpy(payload, a->data + a->sent, part);
    a->sent += part;
    finish(REPLY, a->sent < a->length ? FLAG_MORE : 0, a->request, part);
    if (a->sent == a->length) {
      if (!(first_answer = a->next)) last_answer = &first_answer;
      answer_count--;
      free(a);
    }
  } else if (pong_due) {
    pong_due = false;
    finish(PONG, 0, 0, 0);
  } else if (next_input_ack(&id, &written)) {
    memcpy(payload, &written, 8);
    finish(STDIN_ACK, 0, id, 8);
  } else if ((length = next_output(payload, MAX_GUEST_PAYLOAD, &id))) {
    finish(OUTPUT, 0, id, length);
  } else {
    return false;
  }
  return true;
}

bool channel_flush(void) {
  if (!session) return false;
  for (;;) {
    if (out_done == out_length && !next_frame()) return false;
    ssize_t wrote = write(port, out + out_done, out_length - out_done);
    if (wrote <= 0) return true; /* full, or no host: tried again soon */
    out_done += wrote;
  }
}
