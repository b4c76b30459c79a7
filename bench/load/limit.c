/* limit: the least that a one-process server can do for sioload's modes, as the physical limit.
 *
 * One level-triggered epoll loop. It answers the handshakes, echoes events as acks, and fans a
 * publication out with one send() per member of one shared frame. No JSON is parsed (the payload
 * is copied as it stands), nothing is queued (what the kernel does not take is lost), there is no
 * heartbeat. It is a yardstick for a benchmark on loopback, not a server.
 *
 * usage: limit PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_MESSAGE 65535u /* the longest text in or out: lengths of 64 bits are not spoken */
#define MAX_INPUT (4u * MAX_MESSAGE)
#define NOT_A_MEMBER SIZE_MAX

struct conn {
  int fd;
  bool upgraded;
  size_t member_index; /* in members, or NOT_A_MEMBER */
  uint8_t *leftover;   /* the start of a frame that has not come whole */
  size_t leftover_len;
};

static struct conn **members;
static size_t member_count, member_cap;
static uint8_t input[MAX_INPUT], reply[MAX_MESSAGE + 16], frame[MAX_MESSAGE + 16];

/* -- the WebSocket accept key ------------------------------------------------------------------ */

static uint32_t rotate(uint32_t x, int n) { return x << n | x >> (32 - n); }

static void sha1_block(uint32_t h[5], const uint8_t block[64]) {
  uint32_t w[80];
  for (int i = 0; i < 16; i++)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
  for (int i = 0; i < 80; i++) {
    uint32_t f, k;
    if (i < 20) {
      f = (b & c) | (~b & d), k = 0x5a827999;
    } else if (i < 40) {
      f = b ^ c ^ d, k = 0x6ed9eba1;
    } else if (i < 60) {
      f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
    } else {
      f = b ^ c ^ d, k = 0xca62c1d6;
    }
    uint32_t t = rotate(a, 5) + f + e + k + w[i];
    e = d, d = c, c = rotate(b, 30), b = a, a = t;
  }
  h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* SHA-1 of a message of 56 to 119 bytes, which with its padding makes two blocks. */
static void sha1_two_blocks(const uint8_t *message, size_t len, uint8_t digest[20]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  uint8_t padded[128] = {0};
  memcpy(padded, message, len);
  padded[len] = 0x80;
  padded[126] = (uint8_t)((len * 8) >> 8);
  padded[127] = (uint8_t)(len * 8);
  sha1_block(h, padded);
  sha1_block(h, padded + 64);
  for (int i = 0; i < 20; i++) digest[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Base64 of the 20 bytes of a digest: 28 characters and a NUL. */
static void base64_digest(const uint8_t digest[20], char text[29]) {
  static const char alphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  uint8_t s[21] = {0};
  memcpy(s, digest, 20);
  for (int i = 0, o = 0; i < 21; i += 3, o += 4) {
    uint32_t bits = (uint32_t)s[i] << 16 | (uint32_t)s[i + 1] << 8 | s[i + 2];
    for (int j = 0; j < 4; j++) text[o + j] = alphabet[bits >> (18 - 6 * j) & 63];
  }
  text[27] = '=';
  text[28] = 0;
}

/* -- out --------------------------------------------------------------------------------------- */

static size_t put_frame(uint8_t *out, const void *p, size_t n) {
  size_t head = 2;
  out[0] = 0x81;
  if (n < 126) {
    out[1] = (uint8_t)n;
  } else {
    out[1] = 126;
    out[2] = (uint8_t)(n >> 8);
    out[3] = (uint8_t)n;
    head = 4;
  }
  memcpy(out + head, p, n);
  return head + n;
}

/* A send that the kernel refuses is lost; one that it takes in part has cut a frame, which ends
 * the connection (the reset is seen and cleared up by the epoll loop). */
static void send_bytes(const struct conn *c, const void *p, size_t n) {
  ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0 && (size_t)sent < n) shutdown(c->fd, SHUT_RDWR);
}

static void send_text(const struct conn *c, const void *p, size_t n) {
  send_bytes(c, frame, put_frame(frame, p, n));
}

/* -- members ----------------------------------------------------------------------------------- */

static void join(struct conn *c) {
  if (c->member_index != NOT_A_MEMBER) return;
  if (member_count == member_cap) {
    member_cap = member_cap * 2 + 1024;
    members = realloc(members, member_cap * sizeof *members);
    if (!members) abort();
  }
  c->member_index = member_count;
  members[member_count++] = c;
}

static void leave(struct conn *c) {
  if (c->member_index == NOT_A_MEMBER) return;
  struct conn *last = members[--member_count];
  members[c->member_index] = last;
  last->member_index = c->member_index;
  c->member_index = NOT_A_MEMBER;
}

/* -- in ---------------------------------------------------------------------------------------- */

/* 42<id>["echo",ARG]  ->  43<id>[ARG] */
static void echo(const struct conn *c, const uint8_t *p, size_t n, size_t bracket, size_t comma) {
  memcpy(reply, p, bracket + 1);
  reply[1] = '3';
  memcpy(reply + bracket + 1, p + comma + 1, n - comma - 1);
  send_text(c, reply, bracket + 1 + n - comma - 1);
}

/* 42["pub",ARG]  ->  42["msg",ARG]  to every member */
static void publish(const uint8_t *p, size_t n, size_t comma) {
  memcpy(reply, "42[\"msg\"", 8);
  memcpy(reply + 8, p + comma, n - comma);
  size_t len = put_frame(frame, reply, 8 + n - comma);
  for (size_t i = 0; i < member_count; i++) send_bytes(members[i], frame, len);
}

static void on_text(struct conn *c, const uint8_t *p, size_t n) {
  static const char connected[] = "40{\"sid\":\"abc\"}";
  if (n < 2 || p[0] != '4') return;
  if (p[1] == '0') {
    send_text(c, connected, sizeof connected - 1);
    join(c);
  }
  if (p[1] != '2') return;
  const uint8_t *bracket = memchr(p, '[', n);
  const uint8_t *comma = memchr(p, ',', n);
  if (!bracket || !comma || comma < bracket + 3) return;
  if (bracket[2] == 'e')
    echo(c, p, n, (size_t)(bracket - p), (size_t)(comma - p));
  else
    publish(p, n, (size_t)(comma - p));
}

/* Answer the upgrade and open the session; return the bytes used, 0 if the head is not whole yet,
 * -1 if it is none. */
static ssize_t take_upgrade(struct conn *c, uint8_t *data, size_t len) {
  static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  static const char header[] = "Sec-WebSocket-Key: ";
  static const char open_packet[] =
      "0{\"sid\":\"abcdefghijklmnopqrst\",\"upgrades\":[],\"pingInterval\":25000,"
      "\"pingTimeout\":20000,\"maxPayload\":1000000}";
  const uint8_t *end = memmem(data, len, "\r\n\r\n", 4);
  if (!end) return 0;
  const uint8_t *key = memmem(data, (size_t)(end - data), header, sizeof header - 1);
  if (!key || end - key < (ssize_t)sizeof header - 1 + 24) return -1;

  uint8_t joined[24 + sizeof guid - 1], digest[20];
  char accept[29], answer[256];
  memcpy(joined, key + sizeof header - 1, 24);
  memcpy(joined + 24, guid, sizeof guid - 1);
  sha1_two_blocks(joined, sizeof joined, digest);
  base64_digest(digest, accept);
  int n = snprintf(answer, sizeof answer,
                   "HTTP/1.1 101 Switching Protocols\r\n"
                   "Upgrade: websocket\r\n"
                   "Connection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
  send_bytes(c, answer, (size_t)n);
  send_text(c, open_packet, sizeof open_packet - 1);
  c->upgraded = true;
  return end + 4 - data;
}

/* Take the frames of data[0..len); return the bytes used, -1 if the connection is to be closed. */
static ssize_t take_frames(struct conn *c, uint8_t *data, size_t len) {
  size_t at = 0;
  while (len - at >= 6) {
    uint8_t *p = data + at;
    size_t n = p[1] & 127, head = 2;
    if (n == 127) return -1;
    if (n == 126) n = (size_t)p[2] << 8 | p[3], head = 4;
    if (n > MAX_MESSAGE - 16) return -1;
    if (len - at < head + 4 + n) break;
    uint8_t *text = p + head + 4;
    for (size_t i = 0; i < n; i++) text[i] ^= p[head + (i & 3)];
    if ((p[0] & 15) == 8) return -1;
    if ((p[0] & 15) == 1) on_text(c, text, n);
    at += head + 4 + n;
  }
  return (ssize_t)at;
}

/* Keep what is left of the input until more comes. */
static void keep(struct conn *c, const uint8_t *p, size_t n) {
  free(c->leftover);
  c->leftover = NULL;
  c->leftover_len = n;
  if (!n) return;
  c->leftover = malloc(n);
  if (!c->leftover) abort();
  memcpy(c->leftover, p, n);
}

/* Take what has come; return whether the connection stays. */
static bool receive(struct conn *c) {
  size_t len = c->leftover_len;
  if (len == MAX_INPUT) return false;
  if (len) memcpy(input, c->leftover, len);
  ssize_t n = recv(c->fd, input + len, MAX_INPUT - len, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (n <= 0) return false;
  len += (size_t)n;

  ssize_t used = 0;
  if (!c->upgraded) used = take_upgrade(c, input, len);
  if (used < 0) return false;
  if (c->upgraded) {
    ssize_t more = take_frames(c, input + used, len - (size_t)used);
    if (more < 0) return false;
    used += more;
  }
  keep(c, input + used, len - (size_t)used);
  return true;
}

/* -- the loop ---------------------------------------------------------------------------------- */

static void accept_all(int epoll_fd, int listener) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct conn *c = calloc(1, sizeof *c);
    if (!c) abort();
    c->fd = fd;
    c->member_index = NOT_A_MEMBER;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
  }
}

static void close_conn(struct conn *c) {
  leave(c);
  close(c->fd);
  free(c->leftover);
  free(c);
}

static int listen_on(int port) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
      listen(listener, 4096) < 0) {
    perror("limit");
    exit(1);
  }
  return listener;
}

int main(int argc, char **argv) {
  int port = argc == 2 ? atoi(argv[1]) : 0;
  if (port < 1 || port > 65535) {
    fputs("usage: limit PORT\n", stderr);
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  struct rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  int listener = listen_on(port);
  int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[1024];
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
  for (;;) {
    int n = epoll_wait(epoll_fd, events, 1024, -1);
    for (int i = 0; i < n; i++) {
      struct conn *c = events[i].data.ptr;
      if (!c)
        accept_all(epoll_fd, listener);
      else if (!receive(c))
        close_conn(c);
    }
  }
}
