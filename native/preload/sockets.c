/*
 * Pairs of sockets (socketpair(2), streams) of which the program has both ends: event loops wake themselves by them. Which socket is the other end
 * only sock_diag(7) tells, to whoever asks, of all sockets of the network namespace:
 *
 *   nlmsghdr, unix_diag_req ──► kernel ──► nlmsghdr, unix_diag_msg, attributes: UNIX_DIAG_PEER the inode of the other end, UNIX_DIAG_SHUTDOWN
 */
#include "writer.h"
#include <asm/socket.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#define NETLINK_FAMILY 16
#define UNIX_FAMILY 1
#define STREAM 1
#define PEEK_AT_ONCE (0x2 | 0x40) /* MSG_PEEK | MSG_DONTWAIT */
#define CONTROL_CUT_OFF 0x8       /* MSG_CTRUNC */

static uint64_t option(int fd, int name) {
  int32_t value = 0, size = sizeof value;
  return failed(call(getsockopt, fd, SOL_SOCKET, name, &value, &size)) ? 0 : value;
}

static uint64_t limit(int fd, int name) {
  struct { uint64_t seconds, microseconds; } value = {0, 0};
  int32_t size = sizeof value;
  return failed(call(getsockopt, fd, SOL_SOCKET, name, &value, &size)) ? 0 : value.seconds * NANOSECONDS + value.microseconds * 1000;
}

/* The answer's size in bytes; not positive when there is none. */
static long ask_kernel(uint64_t inode, void *answer, size_t room) {
  const struct { struct nlmsghdr header; struct unix_diag_req question; } message = {
    .header = {.nlmsg_len = sizeof message, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
    .question = {.sdiag_family = UNIX_FAMILY, .udiag_states = ~0u, .udiag_ino = inode, .udiag_show = UDIAG_SHOW_PEER, .udiag_cookie = {~0u, ~0u}},
  };
  const long kernel = call(socket, NETLINK_FAMILY, 3 /* SOCK_RAW */ | O_CLOEXEC, NETLINK_SOCK_DIAG);
  if (failed(kernel)) return kernel;
  long size = call(sendto, kernel, &message, sizeof message, 0, 0, 0);
  if (!failed(size)) size = call(recvfrom, kernel, answer, room, 0, 0, 0);
  call(close, kernel);
  return size;
}

static void take_attributes(struct note_description *description, const uint8_t *at, const uint8_t *end) {
  while (at + sizeof(struct nlattr) < end) {
    const struct nlattr *attribute = (const struct nlattr *)at;
    if (attribute->nla_len <= sizeof *attribute || attribute->nla_len > end - at) return;
    const uint8_t *value = at + sizeof *attribute;
    if (attribute->nla_type == UNIX_DIAG_PEER) description->a = *(const uint32_t *)value;
    if (attribute->nla_type == UNIX_DIAG_SHUTDOWN) description->b = *value;
    at += round_up(attribute->nla_len, 4);
  }
}

/** What `fd` is, when it may be the end of a pair: then it is noted whose, and how it is set. */
bool describe_pair_end(int fd, struct note_description *description) {
  struct { struct nlmsghdr header; struct unix_diag_msg socket; uint8_t attributes[256]; } answer;
  if (!may_make_any_call() || option(fd, SO_DOMAIN) != UNIX_FAMILY || option(fd, SO_TYPE) != STREAM) return false;
  const long size = ask_kernel(description->inode, &answer, sizeof answer);
  const long before_attributes = offsetof(__typeof__(answer), attributes);
  if (size <= before_attributes || answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.socket.udiag_ino != description->inode) return false;
  take_attributes(description, answer.attributes, (const uint8_t *)&answer + size);
  description->c = option(fd, SO_SNDBUF);
  description->d = limit(fd, SO_RCVTIMEO);
  description->e = limit(fd, SO_SNDTIMEO);
  description->f = option(fd, SO_PASSCRED);
  return description->a != 0;
}

/*
 * All that waits at `fd` to be received, which stays there. False when it is more than bytes: descriptors come with them, for which there is no room
 * here, or bytes out of band.
 */
static bool peek(struct writer *writer, int fd, struct received *received) {
  int32_t size = 0;
  call(ioctl, fd, 0x541b /* FIONREAD */, &size);
  struct { void *start; uint64_t size; } bytes = {allocate(writer, size + 1), size + 1};
  uint8_t sender[32]; /* struct cmsghdr and struct ucred */
  struct { uint64_t name, name_size; void *bytes; uint64_t count; uint8_t *control; uint64_t control_size, flags; } message = {
    .bytes = &bytes, .count = 1, .control = sender, .control_size = option(fd, SO_PASSCRED) ? sizeof sender : 0};
  const long got = call(recvmsg, fd, &message, PEEK_AT_ONCE);
  *received = (struct received){bytes.start, size};
  return (failed(got) ? 0 : got) == size && !(message.flags & CONTROL_CUT_OFF);
}

bool may_keep_pair(struct writer *writer, const struct note_description *one) {
  const struct list *list = &writer->lists[LIST_DESCRIPTION];
  struct received received;
  for (uint32_t i = 0; i < list->count; i++) {
    const struct note_description *other = record_at(list, i);
    if (other->kind == DESCRIPTION_KIND_SOCKET_PAIR && other->inode == one->a && other->a == one->inode)
      return peek(writer, descriptor_of(writer, one->id), &received) && peek(writer, descriptor_of(writer, other->id), &received);
  }
  return false;
}

struct received received_by(struct writer *writer, int fd) {
  struct received received;
  if (!peek(writer, fd, &received)) fail(writer, "keep what a socket has yet to receive", 0);
  return received;
}
