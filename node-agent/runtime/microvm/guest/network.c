/* The network of the pod, by rtnetlink: what CNI decided on the host comes true in here. */
#define _GNU_SOURCE
#include "agent.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct message {
  struct nlmsghdr header;
  union { struct ifinfomsg link; struct ifaddrmsg address; struct rtmsg route; char space[512]; };
};

static int channel = -1;
static char failure[256];

static void begin(struct message *m, int type, int flags, size_t body) {
  memset(m, 0, sizeof *m);
  m->header.nlmsg_len = NLMSG_LENGTH(body);
  m->header.nlmsg_type = type;
  m->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
}

static void add(struct message *m, int type, const void *data, size_t length) {
  struct rtattr *a = (void *)((char *)m + NLMSG_ALIGN(m->header.nlmsg_len));
  a->rta_type = type;
  a->rta_len = RTA_LENGTH(length);
  memcpy(RTA_DATA(a), data, length);
  m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

static int talk(struct message *m) {
  char buffer[4096];
  if (send(channel, m, m->header.nlmsg_len, 0) < 0) return errno;
  ssize_t got = recv(channel, buffer, sizeof buffer, 0);
  struct nlmsghdr *answer = (void *)buffer;
  if (got < 0) return errno;
  if (answer->nlmsg_type != NLMSG_ERROR) return 0;
  return -((struct nlmsgerr *)NLMSG_DATA(answer))->error;
}

static int set_link(int index, bool up, const uint8_t *mac, uint32_t mtu) {
  struct message m;
  begin(&m, RTM_NEWLINK, 0, sizeof m.link);
  m.link.ifi_index = index;
  m.link.ifi_change = IFF_UP;
  m.link.ifi_flags = up ? IFF_UP : 0;
  if (mac) add(&m, IFLA_ADDRESS, mac, 6);
  if (mtu) add(&m, IFLA_MTU, &mtu, 4);
  return talk(&m);
}

/* "10.1.2.3/24" or "fd00::1/64"; without a prefix the whole address. False when it is neither. */
struct network { int family; uint8_t bytes[16]; unsigned length, prefix; };
static bool parse(const char *text, struct network *n) {
  char address[64];
  snprintf(address, sizeof address, "%s", text);
  char *slash = strchr(address, '/');
  if (slash) *slash++ = 0;
  n->family = strchr(address, ':') ? AF_INET6 : AF_INET;
  n->length = n->family == AF_INET6 ? 16 : 4;
  n->prefix = slash ? strtoul(slash, NULL, 10) : n->length * 8;
  return inet_pton(n->family, address, n->bytes) == 1 && n->prefix <= n->length * 8;
}

static int add_address(int index, const char *text) {
  struct network n;
  struct message m;
  if (!parse(text, &n)) return EINVAL;
  begin(&m, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof m.address);
  m.address.ifa_family = n.family;
  m.address.ifa_prefixlen = n.prefix;
  m.address.ifa_index = index;
  /* CNI gave the address to one pod only; waiting for duplicates would delay its first packet. */
  m.address.ifa_flags = n.family == AF_INET6 ? IFA_F_NODAD : 0;
  add(&m, IFA_LOCAL, n.bytes, n.length);
  add(&m, IFA_ADDRESS, n.bytes, n.length);
  if (n.family == AF_INET && n.prefix < 31) {
    uint32_t broadcast;
    memcpy(&broadcast, n.bytes, 4);
    broadcast |= htonl(n.prefix ? 0xffffffffu >> n.prefix : 0xffffffffu);
    add(&m, IFA_BROADCAST, &broadcast, 4);
  }
  return talk(&m);
}

static int try_route(int index, const struct network *to, const struct network *via, int flags) {
  struct message m;
  begin(&m, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, sizeof m.route);
  m.route.rtm_family = to->family;
  m.route.rtm_dst_len = to->prefix;
  m.route.rtm_table = RT_TABLE_MAIN;
  m.route.rtm_protocol = RTPROT_BOOT;
  m.route.rtm_type = RTN_UNICAST;
  m.route.rtm_scope = via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
  m.route.rtm_flags = flags;
  if (to->prefix) add(&m, RTA_DST, to->bytes, to->length);
  if (via) add(&m, RTA_GATEWAY, via->bytes, via->length);
  add(&m, RTA_OIF, &index, sizeof index);
  return talk(&m);
}

static int add_route(int index, const char *destination, const char *gateway) {
  struct network to, via;
  if (!parse(destination, &to)) return EINVAL;
  if (!gateway[0]) return try_route(index, &to, NULL, 0);
  if (!parse(gateway, &via) || via.family != to.family) return EINVAL;
  int error = try_route(index, &to, &via, 0);
  /* Some plugins give a gateway that no address's subnet holds; it is on this link all the same. */
  return error ? try_route(index, &to, &via, RTNH_F_ONLINK) : 0;
}

static int set_sysctl(const char *name, const char *value) {
  char path[512] = "/proc/sys/";
  size_t length = strlen(path);
  if (strstr(name, "..") || strlen(name) > 256) return EINVAL;
  for (; *name; name++) path[length++] = *name == '.' ? '/' : *name == '/' ? '.' : *name;
  path[length] = 0;
  return write_file(path, value);
}

static int failed(int error, const char *what, const char *which) {
  if (error) snprintf(failure, sizeof failure, "%s %.160s: %s", what, which, strerror(error));
  return error;
}

static int apply(struct reader *r) {
  char *hostname = get_string(r);
  uint8_t mac[6];
  for (unsigned i = 0; i < 6; i++) mac[i] = get_u8(r);
  uint32_t mtu = get_u32(r);
  int lo = if_nametoindex("lo"), eth = if_nametoindex("eth0");
  if (r->bad) return failed(EINVAL, "configure", "request");
  if (!eth) return failed(ENODEV, "interface", "eth0");
  if (hostname[0] && sethostname(hostname, strlen(hostname)))
    return failed(errno, "hostname", hostname);
  int error = failed(set_link(lo, true, NULL, 0), "link", "lo");
  if (!error) error = failed(set_link(eth, false, mac, mtu), "link", "eth0");
  if (!error) error = failed(set_link(eth, true, NULL, 0), "link", "eth0");
  unsigned count = get_u32(r);
  for (unsigned i = 0; i < count && !error && !r->bad; i++) {
    char *address = get_string(r);
    error = failed(add_address(eth, address), "address", address);
  }
  count = error ? 0 : get_u32(r);
  for (unsigned i = 0; i < count && !error && !r->bad; i++) {
    char *destination = get_string(r), *gateway = get_string(r);
    error = failed(add_route(eth, destination, gateway), "route", destination);
  }
  count = error ? 0 : get_u32(r);
  for (unsigned i = 0; i < count && !error && !r->bad; i++) {
    char *name = get_string(r), *value = get_string(r);
    error = failed(set_sysctl(name, value), "sysctl", name);
  }
  return error ? error : r->bad ? failed(EINVAL, "configure", "request") : 0;
}

int configure_network(struct reader *r, const char **why) {
  channel = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (channel < 0) return errno;
  int error = apply(r);
  close(channel);
  *why = failure;
  return error;
}
