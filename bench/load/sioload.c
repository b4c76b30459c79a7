/* sioload: a load generator for a Socket.IO 5 server over WebSocket (Engine.IO 4).
 *
 * One epoll loop, no library. It speaks just enough of both protocols to measure a server that is
 * expected to be slower than it is. Modes (-m):
 *
 *   echo     every connection keeps -w events  42<id>["echo",PAYLOAD]  outstanding; counts the acks
 *   fanout   every connection receives; the first -P of them publish  42["pub",PAYLOAD]  and keep -w
 *            outstanding (a publication is done when its publisher has its own copy back); counts
 *            deliveries over all connections
 *   idle     connections are opened and held for -t seconds, for reading the server's memory
 *   connect  -w connections at a time are opened, joined and reset, as fast as the server answers
 *   follow   every connection receives  42["n","NUMBER.NS.PADDING"]  until none has come for 5 s, or for
 *            -t seconds: its numbers must be 1, 2, 3 and so on, NS is CLOCK_MONOTONIC when the message was due;
 *            counts what is missing
 *
 * In every mode the last -S connections are stalled: once joined they never read again.
 *
 * Prints one line of JSON: rate per second and, where there is one, latency in microseconds
 * (idle: one line when all are ready, one when the time is over). Exit status: 0 when the
 * measurement ran, even if connections failed (the line says how many); 1 when it could not run;
 * 2 for wrong options.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
#define RING 4096u              /* send times kept per connection: the bound of -w */
#define RECV_CHUNK 65536u       /* bytes asked for by one recv() */
#define TAG_LEN 8               /* "0000007." in front of a payload names its publisher */
#define OPEN_BATCH 200          /* connections opened before waiting for them to be ready */
#define OPEN_DEADLINE_S 20      /* for one such batch */
#define ADDRESS_PORTS 20000     /* connections per loopback source address */
#define FOLLOW_SILENCE_S 5      /* without a message, following is over */
#define LATENCY_BUCKETS (1u << 20) /* one per microsecond; the last one takes the rest */

enum mode { ECHO, FANOUT, IDLE, CONNECT, FOLLOW };
enum state { CONNECTING, UPGRADING, OPENING, JOINING, READY, DEAD };

/* A growing byte buffer. */
struct buffer {
  uint8_t *data;
  size_t len, cap;
};

struct conn {
  int fd;
  int index;
  enum state state;
  bool stalled;
  uint32_t interest;      /* the epoll events asked for */
  int outstanding;        /* events sent and not yet answered */
  uint64_t sent, got;     /* events sent so far, own copies back so far (fanout) */
  uint64_t *sent_at;      /* ring: send time by event number */
  struct buffer out;      /* what the kernel has not taken yet */
  struct buffer leftover; /* the start of a frame that has not come whole */
};

static struct {
  enum mode mode;
  const char *mode_name, *host, *path;
  int port, conns, window, publishers, payload_bytes, seconds, warm_up_s, stalled;
} opt = {
    .mode = ECHO,
    .mode_name = "echo",
    .host = "127.0.0.1",
    .path = "/socket.io/?EIO=4&transport=websocket",
    .port = 3000,
    .conns = 100,
    .window = 1,
    .publishers = 1,
    .payload_bytes = 64,
    .seconds = 5,
    .warm_up_s = 1,
};

static int epoll_fd;
static struct conn *all;
static struct buffer chunk; /* the one receive buffer, shared by all connections */
static char *payload, *message;
static struct sockaddr_in server;

static int ready_count, dead_count;
static bool started, measuring;
static uint64_t done, bytes_in, opened, gaps, last_ns;
static uint32_t *latencies; /* histogram */
static uint64_t latency_count, latency_max_us;

/* -- small things ---------------------------------------------------------------------------- */

static void die(const char *format, ...) {
  va_list args;
  va_start(args, format);
  fputs("sioload: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  exit(1);
}

static void *checked(void *p) {
  if (!p) die("out of memory");
  return p;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void reserve(struct buffer *b, size_t more) {
  if (b->len + more <= b->cap) return;
  b->cap = (b->len + more) * 2 + 256;
  b->data = checked(realloc(b->data, b->cap));
}

static void append(struct buffer *b, const void *p, size_t n) {
  reserve(b, n);
  memcpy(b->data + b->len, p, n);
  b->len += n;
}

static void release(struct buffer *b) {
  free(b->data);
  *b = (struct buffer){0};
}

static void note_latency(uint64_t from_ns) {
  if (!measuring) return;
  uint64_t us = (now_ns() - from_ns) / 1000;
  if (us > latency_max_us) latency_max_us = us;
  latencies[us < LATENCY_BUCKETS ? us : LATENCY_BUCKETS - 1]++;
  latency_count++;
}

static uint64_t latency_percentile(double share) {
  uint64_t before = 0, rank = (uint64_t)((double)latency_count * share);
  for (uint64_t us = 0; us < LATENCY_BUCKETS; us++) {
    before += latencies[us];
    if (before > rank) return us;
  }
  return latency_max_us;
}

/* -- connections ----------------------------------------------------------------------------- */

static void drop(struct conn *c, const char *why) {
  static bool said;
  if (c->state == DEAD) return;
  if (!said) fprintf(stderr, "sioload: first connection lost: %s\n", why);
  said = true;
  if (c->state == READY) ready_count--;
  c->state = DEAD;
  dead_count++;
  close(c->fd);
  release(&c->out);
  release(&c->leftover);
}

/* Ask epoll for what this connection waits for; a system call only if that has changed. */
static void update_interest(struct conn *c) {
  bool reads = !(c->stalled && c->state == READY);
  uint32_t wanted = (reads ? EPOLLIN : 0u) | (c->out.len ? EPOLLOUT : 0u);
  if (wanted == c->interest) return;
  c->interest = wanted;
  struct epoll_event e = {.events = wanted, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(struct conn *c) {
  if (c->state == DEAD) return;
  if (c->out.len) {
    ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
      drop(c, strerror(errno));
      return;
    }
    if (n > 0) {
      c->out.len -= (size_t)n;
      memmove(c->out.data, c->out.data + n, c->out.len);
    }
  }
  update_interest(c);
}

static void open_conn(struct conn *c) {
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) die("socket: %s (see ulimit -n)", strerror(errno));
  int one = 1;
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (c->stalled) { /* a small window, so that the server notices soon */
    int small = 4096;
    setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  }
  if (c->stalled && opt.mode == FOLLOW) { /* as on a network: the loopback's segments let the kernel hold MiB */
    int segment = 1400;
    setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
  }
  if (c->index >= ADDRESS_PORTS) { /* one source address has not ports enough for all */
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(c->index / ADDRESS_PORTS));
    if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0)
      die("bind: %s", strerror(errno));
  }
  c->state = CONNECTING;
  c->outstanding = 0;
  c->sent = c->got = 0;
  c->out.len = c->leftover.len = 0;
  c->interest = EPOLLIN | EPOLLOUT;
  struct epoll_event e = {.events = c->interest, .data.ptr = c};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
  if (connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
    drop(c, strerror(errno));
}

/* Reset rather than close, so that no port is left in TIME_WAIT, and begin anew. */
static void reopen_conn(struct conn *c) {
  struct linger reset = {.l_onoff = 1, .l_linger = 0};
  setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(c->fd);
  open_conn(c);
}

static void send_upgrade(struct conn *c) {
  char request[1024];
  int n = snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\n"
                   "Host: %s:%d\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                   "Sec-WebSocket-Version: 13\r\n\r\n",
                   opt.path, opt.host, opt.port);
  if (n < 0 || (size_t)n >= sizeof request) die("the path is too long");
  append(&c->out, request, (size_t)n);
  c->state = UPGRADING;
}

/* -- WebSocket frames and Socket.IO packets out ------------------------------------------------ */

static void put_frame(struct conn *c, int opcode, const void *p, size_t n) {
  static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
  uint8_t head[14];
  size_t k = 2;
  head[0] = (uint8_t)(0x80 | opcode);
  if (n < 126) {
    head[1] = (uint8_t)(0x80 | n);
  } else if (n < 65536) {
    head[1] = 0x80 | 126;
    head[2] = (uint8_t)(n >> 8);
    head[3] = (uint8_t)n;
    k = 4;
  } else {
    head[1] = 0x80 | 127;
    for (int i = 0; i < 8; i++) head[2 + i] = (uint8_t)((uint64_t)n >> (56 - 8 * i));
    k = 10;
  }
  memcpy(head + k, mask, sizeof mask);
  append(&c->out, head, k + sizeof mask);
  size_t at = c->out.len;
  append(&c->out, p, n);
  for (size_t i = 0; i < n; i++) c->out.data[at + i] ^= mask[i & 3];
}

static size_t message_size(void) { return (size_t)opt.payload_bytes + 64; }

static void send_echo(struct conn *c) {
  uint32_t id = (uint32_t)c->sent++;
  int n = snprintf(message, message_size(), "42%u[\"echo\",\"%s\"]", id, payload);
  c->sent_at[id % RING] = now_ns();
  put_frame(c, 1, message, (size_t)n);
  c->outstanding++;
}

static void tag_payload(int publisher) {
  char tag[16];
  snprintf(tag, sizeof tag, "%07d.", publisher % 10000000);
  memcpy(payload, tag, TAG_LEN);
}

static void send_pub(struct conn *c) {
  if (opt.publishers > 1) tag_payload(c->index);
  int n = snprintf(message, message_size(), "42[\"pub\",\"%s\"]", payload);
  c->sent_at[c->sent++ % RING] = now_ns();
  put_frame(c, 1, message, (size_t)n);
  c->outstanding++;
}

static bool publishes(const struct conn *c) {
  return opt.mode == FANOUT && c->index < opt.publishers;
}

/* Send until the window is full. */
static void kick(struct conn *c) {
  if (opt.mode == ECHO)
    while (c->outstanding < opt.window) send_echo(c);
  if (publishes(c))
    while (c->outstanding < opt.window) send_pub(c);
}

/* -- what the server says ---------------------------------------------------------------------- */

static void on_joined(struct conn *c) {
  opened++;
  if (opt.mode == CONNECT) {
    reopen_conn(c);
    return;
  }
  c->state = READY;
  ready_count++;
  if (started && !c->stalled) kick(c);
}

static void on_ack(struct conn *c, const uint8_t *p, size_t n) {
  uint32_t id = 0;
  for (size_t i = 2; i < n && p[i] >= '0' && p[i] <= '9'; i++) id = id * 10 + (p[i] - '0');
  note_latency(c->sent_at[id % RING]);
  c->outstanding--;
  if (measuring) done++;
  kick(c);
}

/* Whether this copy is of the connection's own publication. With one publisher all are. */
static bool own_copy(const struct conn *c, const uint8_t *p, size_t n) {
  if (opt.publishers == 1) return true;
  const uint8_t *comma = memchr(p, ',', n);
  if (!comma) return false;
  const uint8_t *tag = memchr(comma, '"', (size_t)(p + n - comma));
  if (!tag || p + n - tag <= TAG_LEN) return false;
  return strtol((const char *)tag + 1, NULL, 10) == c->index; /* ends at the tag's dot */
}

/* A numbered message: 42["n","NUMBER.NS.PADDING"]. */
static void on_number(struct conn *c, const uint8_t *p, size_t n) {
  static const char head[] = "42[\"n\",\"";
  if (n <= sizeof head || memcmp(p, head, sizeof head - 1) != 0) return;
  char *end;
  uint64_t number_ = strtoull((const char *)p + sizeof head - 1, &end, 10);
  if (number_ != c->got + 1) gaps++;
  c->got = number_;
  done++;
  last_ns = now_ns();
  note_latency(strtoull(end + 1, NULL, 10)); /* ends at the second dot */
}

static void on_event(struct conn *c, const uint8_t *p, size_t n) {
  if (opt.mode == FOLLOW) {
    on_number(c, p, n);
    return;
  }
  if (measuring) done++;
  if (!publishes(c) || !own_copy(c, p, n)) return;
  note_latency(c->sent_at[c->got++ % RING]);
  c->outstanding--;
  kick(c);
}

static void on_text(struct conn *c, const uint8_t *p, size_t n) {
  if (n == 1 && p[0] == '2') /* Engine.IO ping */
    put_frame(c, 1, "3", 1);
  else if (n >= 1 && p[0] == '0' && c->state == OPENING) { /* Engine.IO open: join "/" */
    put_frame(c, 1, "40", 2);
    c->state = JOINING;
  } else if (n >= 2 && p[0] == '4') {
    if (p[1] == '0' && c->state == JOINING) on_joined(c);
    if (p[1] == '3' && n > 2 && c->sent_at) on_ack(c, p, n);
    if (p[1] == '2' && n > 2) on_event(c, p, n);
  }
}

/* Take the frames of data[0..len); return how many bytes were used. After it the connection may
 * be dead or opened anew (not READY in connect mode): the rest of the data is void then. */
static size_t take_frames(struct conn *c, const uint8_t *data, size_t len) {
  size_t at = 0;
  while (len - at >= 2) {
    const uint8_t *p = data + at;
    size_t n = p[1] & 127, head = 2;
    if (n == 126) head = 4;
    if (n == 127) head = 10;
    if (len - at < head) break;
    if (head > 2) n = 0;
    for (size_t i = 2; i < head; i++) n = n << 8 | p[i];
    if (len - at - head < n) break;
    at += head + n;
    switch (p[0] & 15) {
      case 1: on_text(c, p + head, n); break;
      case 8: drop(c, "closed by the server"); break;
      case 9: put_frame(c, 10, p + head, n); break;
      default: break;
    }
    if (c->state == DEAD || c->state == CONNECTING) return len;
  }
  return at;
}

/* Take the answer to the upgrade; return how many bytes were used, 0 if it is not whole yet. */
static size_t take_upgrade(struct conn *c, const uint8_t *data, size_t len) {
  const uint8_t *end = memmem(data, len, "\r\n\r\n", 4);
  if (!end) return 0;
  if (len < 12 || memcmp(data + 9, "101", 3) != 0) {
    drop(c, "the WebSocket upgrade was refused");
    return len;
  }
  c->state = OPENING;
  return (size_t)(end + 4 - data);
}

/* Take what is in the shared chunk; what is left of it waits in the connection's own buffer. */
static void on_bytes(struct conn *c) {
  size_t used = 0;
  if (c->state == UPGRADING) used = take_upgrade(c, chunk.data, chunk.len);
  if (c->state >= OPENING && c->state != DEAD)
    used += take_frames(c, chunk.data + used, chunk.len - used);
  if (c->state == DEAD || c->state == CONNECTING) return;
  if (used < chunk.len)
    append(&c->leftover, chunk.data + used, chunk.len - used);
}

static void receive(struct conn *c) {
  for (;;) {
    chunk.len = 0;
    append(&chunk, c->leftover.data ? c->leftover.data : (uint8_t *)"", c->leftover.len);
    reserve(&chunk, RECV_CHUNK);
    ssize_t n = recv(c->fd, chunk.data + chunk.len, RECV_CHUNK, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      drop(c, n ? strerror(errno) : "end of stream");
      return;
    }
    chunk.len += (size_t)n;
    if (c->leftover.cap) release(&c->leftover);
    if (measuring) bytes_in += (uint64_t)n;
    on_bytes(c);
    if (c->state == DEAD || c->state == CONNECTING || n < (ssize_t)RECV_CHUNK) return;
  }
}

static void serve(struct conn *c, uint32_t events) {
  if (c->state == DEAD) return;
  if (c->state == CONNECTING) {
    if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
      drop(c, strerror(error));
      return;
    }
    send_upgrade(c);
  } else if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
    receive(c);
    if (c->state == CONNECTING) return; /* opened anew: wait until it is connected */
  }
  flush(c);
}

static void spin_until(uint64_t until) {
  static struct epoll_event events[1024];
  for (uint64_t now = now_ns(); now < until; now = now_ns()) {
    int timeout_ms = (int)((until - now) / 1000000) + 1;
    int n = epoll_wait(epoll_fd, events, 1024, timeout_ms < 20 ? timeout_ms : 20);
    for (int i = 0; i < n; i++) serve(events[i].data.ptr, events[i].events);
  }
}

static void spin_for(int seconds) { spin_until(now_ns() + (unsigned)seconds * NS_PER_S); }

static double seconds_since(uint64_t then) { return (double)(now_ns() - then) / (double)NS_PER_S; }

/* How long this process was ready to run but had to wait for its core; 0 if the kernel keeps no
 * account. More than a little says that something else ran there: the figure is too low. */
static double waited_s(void) {
  unsigned long long ran = 0, waited = 0;
  FILE *f = fopen("/proc/self/schedstat", "r");
  if (!f) return 0;
  if (fscanf(f, "%llu %llu", &ran, &waited) != 2) waited = 0;
  fclose(f);
  return (double)waited / (double)NS_PER_S;
}

/* -- modes ------------------------------------------------------------------------------------- */

static void run_connect(void) {
  for (int i = 0; i < opt.window; i++) open_conn(&all[i]);
  spin_for(opt.warm_up_s);
  opened = 0;
  uint64_t from = now_ns();
  spin_for(opt.seconds);
  printf("{\"mode\":\"connect\",\"per_s\":%.0f,\"failed\":%d}\n",
         (double)opened / seconds_since(from), dead_count);
}

/* Open all connections, a batch at a time; give up when a batch is not ready in time. */
static void open_all(void) {
  for (int i = 0; i < opt.conns;) {
    for (int batch = 0; i < opt.conns && batch < OPEN_BATCH; i++, batch++) open_conn(&all[i]);
    uint64_t deadline = now_ns() + OPEN_DEADLINE_S * NS_PER_S;
    while (ready_count + dead_count < i && now_ns() < deadline) spin_until(now_ns() + 1000000);
    if (ready_count + dead_count < i - 2 * OPEN_BATCH) break;
  }
  if (ready_count < opt.conns)
    fprintf(stderr, "sioload: only %d of %d are ready, %d failed\n", ready_count, opt.conns,
            dead_count);
}

static void run_idle(double connect_s) {
  printf("{\"mode\":\"idle\",\"ready\":%d,\"failed\":%d,\"connect_s\":%.2f}\n", ready_count,
         dead_count, connect_s);
  fflush(stdout);
  spin_for(opt.seconds);
  printf("{\"held\":%d,\"lost\":%d}\n", ready_count, dead_count);
}

/* Say when all are ready, listen, and say what came. `least` and `most` are numbers per connection that reads. */
static void run_follow(double connect_s) {
  printf("{\"mode\":\"follow\",\"ready\":%d,\"failed\":%d,\"connect_s\":%.2f}\n", ready_count,
         dead_count, connect_s);
  fflush(stdout);
  measuring = true;
  double waited = waited_s();
  uint64_t from = now_ns(), until = from + (unsigned)opt.seconds * NS_PER_S;
  while (now_ns() < until && (!last_ns || now_ns() - last_ns < FOLLOW_SILENCE_S * NS_PER_S))
    spin_until(now_ns() + NS_PER_S / 10);
  double elapsed = seconds_since(from);
  waited = waited_s() - waited;
  uint64_t least = UINT64_MAX, most = 0;
  int lost = 0;
  for (int i = 0; i < opt.conns; i++) {
    if (all[i].stalled) continue;
    if (all[i].state != READY) lost++;
    if (all[i].got < least) least = all[i].got;
    if (all[i].got > most) most = all[i].got;
  }
  printf("{\"received\":%llu,\"gaps\":%llu,\"lost\":%d,\"least\":%llu,\"most\":%llu,\"p50_us\":%llu,"
         "\"p99_us\":%llu,\"max_us\":%llu,\"mb_s\":%.1f,\"waited_share\":%.3f}\n",
         (unsigned long long)done, (unsigned long long)gaps, lost, (unsigned long long)least,
         (unsigned long long)most, (unsigned long long)latency_percentile(0.5),
         (unsigned long long)latency_percentile(0.99), (unsigned long long)latency_max_us,
         (double)bytes_in / elapsed / 1e6, waited / elapsed);
}

static void run_load(double connect_s) {
  started = true;
  for (int i = 0; i < opt.conns; i++) {
    if (all[i].state != READY || all[i].stalled) continue;
    kick(&all[i]);
    flush(&all[i]);
  }
  spin_for(opt.warm_up_s);
  measuring = true;
  double waited = waited_s();
  uint64_t from = now_ns();
  spin_for(opt.seconds);
  double elapsed = seconds_since(from);
  measuring = false;
  waited = waited_s() - waited;
  printf("{\"mode\":\"%s\",\"conns\":%d,\"ready\":%d,\"lost\":%d,\"connect_s\":%.2f,"
         "\"per_s\":%.0f,\"mb_s\":%.1f,\"p50_us\":%llu,\"p99_us\":%llu,\"max_us\":%llu,"
         "\"waited_share\":%.3f}\n",
         opt.mode_name, opt.conns, ready_count, dead_count, connect_s, (double)done / elapsed,
         (double)bytes_in / elapsed / 1e6, (unsigned long long)latency_percentile(0.5),
         (unsigned long long)latency_percentile(0.99), (unsigned long long)latency_max_us,
         waited / elapsed);
}

/* -- options and set-up ------------------------------------------------------------------------ */

static void usage(void) {
  fputs("usage: sioload [-m echo|fanout|idle|connect|follow] [-p port] [-c connections] [-w window]\n"
        "               [-P publishers] [-s payload bytes] [-t seconds] [-W warm-up seconds]\n"
        "               [-S stalled connections] [-u path]\n",
        stderr);
  exit(2);
}

static int number(const char *text, int least, int most) {
  char *end;
  errno = 0;
  long n = strtol(text, &end, 10);
  if (errno || *end || end == text || n < least || n > most) {
    fprintf(stderr, "sioload: %s is not a number from %d to %d\n", text, least, most);
    usage();
  }
  return (int)n;
}

static void set_mode(const char *name) {
  static const char *const names[] = {"echo", "fanout", "idle", "connect", "follow"};
  for (int i = 0; i < 5; i++) {
    if (strcmp(name, names[i]) != 0) continue;
    opt.mode = (enum mode)i;
    opt.mode_name = names[i];
    return;
  }
  usage();
}

static void parse_options(int argc, char **argv) {
  for (int o; (o = getopt(argc, argv, "m:p:c:w:P:s:t:W:S:u:")) != -1;) {
    switch (o) {
      case 'm': set_mode(optarg); break;
      case 'p': opt.port = number(optarg, 1, 65535); break;
      case 'c': opt.conns = number(optarg, 1, 1000000); break;
      case 'w': opt.window = number(optarg, 1, RING); break;
      case 'P': opt.publishers = number(optarg, 1, INT_MAX); break;
      case 's': opt.payload_bytes = number(optarg, 0, 1 << 24); break;
      case 't': opt.seconds = number(optarg, 1, 86400); break;
      case 'W': opt.warm_up_s = number(optarg, 0, 86400); break;
      case 'S': opt.stalled = number(optarg, 0, INT_MAX); break;
      case 'u': opt.path = optarg; break;
      default: usage();
    }
  }
  if (optind != argc) usage();
  if (opt.publishers > 1 && opt.payload_bytes < TAG_LEN) {
    fprintf(stderr, "sioload: several publishers need payloads of %d bytes or more\n", TAG_LEN);
    exit(2);
  }
}

static void set_up(void) {
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  payload = checked(malloc((size_t)opt.payload_bytes + 1));
  memset(payload, 'x', (size_t)opt.payload_bytes);
  payload[opt.payload_bytes] = 0;
  message = checked(malloc(message_size()));
  latencies = checked(calloc(LATENCY_BUCKETS, sizeof *latencies));
  server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port)};
  inet_pton(AF_INET, opt.host, &server.sin_addr);
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) die("epoll: %s", strerror(errno));

  int slots = opt.mode == CONNECT ? opt.window : opt.conns;
  all = checked(calloc((size_t)slots, sizeof *all));
  for (int i = 0; i < slots; i++) {
    all[i].index = i;
    all[i].stalled = opt.mode != CONNECT && i >= slots - opt.stalled;
    if (opt.mode == ECHO || publishes(&all[i]))
      all[i].sent_at = checked(calloc(RING, sizeof(uint64_t)));
  }
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  set_up();
  if (opt.mode == CONNECT) {
    run_connect();
    return 0;
  }
  uint64_t from = now_ns();
  open_all();
  double connect_s = seconds_since(from);
  if (opt.mode == IDLE)
    run_idle(connect_s);
  else if (opt.mode == FOLLOW)
    run_follow(connect_s);
  else
    run_load(connect_s);
  return 0;
}
