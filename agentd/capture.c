/* SPDX-License-Identifier: Apache-2.0 */
/* capture.c - packets of an interface into the sink (see capture.h). */
#include "capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <pcap/pcap.h>
#include <pcap/sll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "common/ends.h"
#include "common/flow.h"
#include "common/link.h"
#include "common/log.h"
#include "common/own.h"
#include "filter.h"
#include "lane.h"

#define COMPONENT "capture"
#define BLOCK_MS 10		  /* after which the kernel hands over a block of the ring that is not full */
#define SWEEP_PACKETS 4096	  /* in one sweep, so that forging goes on */
#define SWEEP_BYTES (4u << 20)	  /* likewise */
#define SWEEPS_MAX 1024		  /* at the end, to count what nobody took */
#define CHECK_NS 250000000ull	  /* between two looks at the interface */
#define MESSAGE_NS 30000000000ull /* between two lines about the same trouble */
#define END_NS (25 * 1000000ull)  /* nothing to read for so long: no block is half full any more */
#define TAG 4			  /* bytes of a VLAN tag */
#define FRAME_MAX (CAPTURE_SNAPLEN + LINK_ETHER + TAG)

enum state { THERE, DOWN, GONE };

struct capture {
	pcap_t *pcap;
	struct lane *l;
	struct own *own;
	char want[IFNAMSIZ]; /* the interface as it was named to us */
	char name[IFNAMSIZ]; /* as it is called now */
	int ifindex;	     /* 0: any */
	unsigned short type; /* ARPHRD_ETHER ... */
	int link;
	unsigned reserve; /* bytes that libpcap has the kernel leave free before each packet */
	enum state state;
	ev_io io;
	uint64_t looked_ns, said_ns, drops_ns;
	uint32_t ps_drop;
	size_t swept; /* bytes in this sweep */
	uint64_t end_ts, quiet_ns, unsent;
	bool ending, ended;
	struct capture_count n;
	struct segment_count cut;
	/* a frame that was made or has to wait */
	bool cut_short, complete;
	uint64_t ts_ns;
	size_t len;
	uint8_t frame[FRAME_MAX];
};

/* --- what is it? --- */

/* Does this frame come from flow.c, ours or another agent's? Nobody else is to go unseen by calling himself like that:
 * a frame with both addresses is for no host; of a cooked one, which lacks the receiver's, that is told by its type. */
static bool is_forged(const struct link_frame *f, const uint8_t *p)
{
	static const uint8_t from[6] = FLOW_SRC_MAC, to[6] = FLOW_DST_MAC;

	if (f->head_len == 0)
		return memcmp(p, to, 6) == 0 && memcmp(p + 6, from, 6) == 0;
	return memcmp(f->head + 6, from, 6) == 0 && (f->to == PACKET_OTHERHOST || f->to == PACKET_OUTGOING);
}

/* What the kernel knows of a packet and libpcap does not tell is in the ring's own header, at a fixed distance before
 * what we are given, by the lengths of the link header and of what libpcap put in front (a VLAN tag, a cooked header).
 * That it is the header of this packet is told by its offset, length and time. */
static bool ring_header(const struct capture *c, const struct pcap_pkthdr *h, const uint8_t *p,
			struct tpacket3_hdr *ret)
{
	static const struct {
		uint8_t mac, front;
	} kinds[] = {{14, 0}, {14, TAG}, {18, 0}, {18, TAG}, {22, 0}, {0, SLL2_HDR_LEN}, {0, SLL_HDR_LEN}, {0, 0}};
	const size_t base = TPACKET_ALIGN(TPACKET3_HDRLEN) + 16 + c->reserve; /* as tpacket_rcv() lays it out */

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const size_t mac = base - kinds[i].mac;

		memcpy(ret, p + kinds[i].front - mac, sizeof(*ret));
		if (ret->tp_mac == mac && ret->tp_len + kinds[i].front == h->len &&
		    ret->tp_sec == (uint32_t)h->ts.tv_sec && ret->tp_nsec == (uint32_t)h->ts.tv_usec)
			return true;
	}
	return false;
}

/* LINUX_SLL2 lacks a VLAN tag that the kernel keeps beside the packet (libpcap issue 1105; fine with the other link
 * types). */
static bool beside(const struct tpacket3_hdr *r, uint8_t ret[static TAG])
{
	if (!(r->tp_status & TP_STATUS_VLAN_VALID))
		return false;
	ret[0] = r->tp_status & TP_STATUS_VLAN_TPID_VALID ? (uint8_t)(r->hv1.tp_vlan_tpid >> 8) : ETH_P_8021Q >> 8;
	ret[1] = r->tp_status & TP_STATUS_VLAN_TPID_VALID ? (uint8_t)r->hv1.tp_vlan_tpid : ETH_P_8021Q & 255;
	ret[2] = (uint8_t)(r->hv1.tp_vlan_tci >> 8);
	ret[3] = (uint8_t)r->hv1.tp_vlan_tci;
	return true;
}

/* --- packets --- */

/* Add a frame to the batch. False: no credit. */
static bool add(struct capture *c, const uint8_t *p, size_t len, uint64_t ts_ns, bool cut_short, bool complete)
{
	size_t bytes, frames;
	int n;

	segment_room(len, c->l->sink->mtu, &bytes, &frames);
	if (frames > 0 && !lane_room(c->l, bytes, frames))
		return false;
	n = segment_put(&c->l->batch, p, len, c->l->sink->mtu, ts_ns, complete, &c->cut);
	if (n < 0) {
		c->n.malformed++;
		return true;
	}
	c->n.sent++;
	c->n.frames += (unsigned)n;
	c->n.cut_short += cut_short;
	return true;
}

/* Make c->frame of a packet that has no Ethernet header. */
static void make_frame(struct capture *c, const struct pcap_pkthdr *h, const uint8_t *p, const struct link_frame *f,
		       const struct tpacket3_hdr *r)
{
	size_t head = f->head_len;

	memcpy(c->frame, f->head, f->head_len);
	if (c->link == DLT_LINUX_SLL2 && f->proto != ETH_P_8021Q && beside(r, c->frame + 12)) {
		memcpy(c->frame + 12 + TAG, f->head + 12, 2);
		head += TAG;
	}
	memcpy(c->frame + head, p + f->strip, h->caplen - f->strip);
	c->len = head + h->caplen - f->strip;
}

static void on_packet(u_char *arg, const struct pcap_pkthdr *h, const u_char *p)
{
	struct capture *c = (struct capture *)arg;
	uint64_t ts_ns = (uint64_t)h->ts.tv_sec * 1000000000u + (uint64_t)h->ts.tv_usec; /* nanoseconds, as asked for */
	struct tpacket3_hdr r;
	struct link_frame f;
	struct tuple t;
	bool complete;
	size_t ip;

	c->n.seen++;
	c->n.bytes += h->len;
	c->swept += h->caplen;
	if (c->swept >= SWEEP_BYTES)
		pcap_breakloop(c->pcap); /* behind this one */
	if (c->ending && ts_ns >= c->end_ts)
		c->ended = true;
	if (h->caplen > CAPTURE_SNAPLEN || !link_to_ethernet(c->link, p, h->caplen, &f)) {
		c->n.malformed++;
		return;
	}
	ip = f.head_len > 0 ? f.strip : LINK_ETHER;
	if (own_is_replay(c->own, c->ifindex ? (uint32_t)c->ifindex : f.ifindex) || is_forged(&f, p)) {
		c->n.replayed++;
		return;
	}
	if (ends_find(f.proto, p + ip, h->caplen - ip, &t) && own_is_tunnel(c->own, &t)) {
		c->n.own++;
		return;
	}
	if (!ring_header(c, h, p, &r))
		r.tp_status = TP_STATUS_CSUMNOTREADY; /* maybe */
	complete = !(r.tp_status & (TP_STATUS_CSUMNOTREADY | TP_STATUS_CSUM_VALID));
	if (f.head_len > 0) {
		make_frame(c, h, p, &f, &r);
		p = c->frame;
	} else {
		c->len = h->caplen;
	}
	if (add(c, p, c->len, ts_ns, h->caplen < h->len, complete))
		return;
	/* it has left the ring: keep it, and leave the others there */
	if (p != c->frame)
		memcpy(c->frame, p, c->len);
	c->ts_ns = ts_ns;
	c->cut_short = h->caplen < h->len;
	c->complete = complete;
	c->n.waiting = 1;
	pcap_breakloop(c->pcap);
}

/* --- the interface --- */

static void say(struct capture *c, const char *what)
{
	log_warn(COMPONENT, "interface %s %s; waiting for it", c->name, what);
	c->said_ns = c->l->now_ns;
}

/* An interface of our name may be another one: let the socket see that. Needs no capability. */
static bool bind_again(struct capture *c, struct ifreq *q)
{
	struct packet_mreq promisc = {.mr_type = PACKET_MR_PROMISC};
	struct sockaddr_ll sa = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = pcap_fileno(c->pcap);

	(void)snprintf(q->ifr_name, sizeof(q->ifr_name), "%s", c->want);
	if (ioctl(fd, SIOCGIFINDEX, q) == -1)
		return false;
	sa.sll_ifindex = promisc.mr_ifindex = q->ifr_ifindex;
	if (ioctl(fd, SIOCGIFFLAGS, q) == -1 || !(q->ifr_flags & IFF_UP) || ioctl(fd, SIOCGIFHWADDR, q) == -1)
		return false;
	if (q->ifr_hwaddr.sa_family != c->type) {
		if (c->l->now_ns - c->said_ns >= MESSAGE_NS)
			say(c, "came back as an interface of another kind");
		return false;
	}
	if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == -1)
		return false;
	(void)setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promisc, sizeof(promisc));
	c->ifindex = sa.sll_ifindex;
	return true;
}

static enum state look(struct capture *c)
{
	struct ifreq q = {.ifr_ifindex = c->ifindex};
	int fd = pcap_fileno(c->pcap);

	if (ioctl(fd, SIOCGIFNAME, &q) == -1 && !bind_again(c, &q))
		return GONE;
	if (strcmp(c->name, q.ifr_name) != 0) {
		log_info(COMPONENT, "interface %s is called %s now", c->name, q.ifr_name);
		(void)snprintf(c->name, sizeof(c->name), "%s", q.ifr_name);
	}
	if (ioctl(fd, SIOCGIFFLAGS, &q) == -1)
		return GONE;
	return q.ifr_flags & IFF_UP ? THERE : DOWN;
}

static void check_interface(struct capture *c)
{
	static const char *const how[] = {[DOWN] = "is down", [GONE] = "is gone"};
	int was = c->ifindex;
	enum state now;

	c->looked_ns = c->l->now_ns;
	now = look(c);
	if (now == THERE && (c->state != THERE || c->ifindex != was)) {
		log_info(COMPONENT, "interface %s is back", c->name);
		c->n.away += c->state == THERE; /* gone and back between two looks */
	} else if (now != THERE) {
		c->n.away += c->state == THERE;
		if (now != c->state || c->l->now_ns - c->said_ns >= MESSAGE_NS)
			say(c, how[now]);
	}
	c->state = now;
}

static void count_drops(struct capture *c)
{
	struct pcap_stat s;

	if (pcap_stats(c->pcap, &s) != 0)
		return;
	c->n.kernel_drops += s.ps_drop - c->ps_drop; /* libpcap's count wraps */
	c->ps_drop = s.ps_drop;
	if (c->l != NULL)
		c->drops_ns = c->l->now_ns;
}

/* --- sweeping --- */

static void read_ring(struct capture *c)
{
	uint64_t seen = c->n.seen, now = c->l->now_ns;
	int r;

	c->swept = 0;
	r = pcap_dispatch(c->pcap, SWEEP_PACKETS, on_packet, (u_char *)c);
	if (r == PCAP_ERROR && c->ifindex != 0 && now - c->looked_ns >= BLOCK_MS * 1000000u)
		check_interface(c);
	/* one that was renamed goes on, while libpcap complains that its name is gone */
	if (r == PCAP_ERROR && c->state == THERE && strcmp(c->name, c->want) == 0 && now - c->said_ns >= MESSAGE_NS) {
		log_warn(COMPONENT, "interface %s: %s", c->name, pcap_geterr(c->pcap));
		c->said_ns = now;
	}
	if (c->n.seen != seen)
		c->quiet_ns = now;
	else if (c->ending && now - c->quiet_ns >= END_NS)
		c->ended = true;
}

void capture_sweep(struct capture *c)
{
	struct lane *l = c->l;

	if (l == NULL || c->ended)
		return;
	own_refresh(c->own, l->now_ns);
	if (c->ifindex != 0 && l->now_ns - c->looked_ns >= CHECK_NS)
		check_interface(c);
	if (l->now_ns - c->drops_ns >= 1000000000u)
		count_drops(c);
	if (c->n.waiting && add(c, c->frame, c->len, c->ts_ns, c->cut_short, c->complete))
		c->n.waiting = 0;
	if (!c->n.waiting)
		read_ring(c);
	lane_put(l);
	/* without credit, or an interface, the lane's own sweeps are often enough */
	if (c->n.waiting || c->state != THERE || c->ended)
		ev_io_stop(l->loop, &c->io);
	else
		ev_io_start(l->loop, &c->io);
}

static void on_readable(struct ev_loop *loop, ev_io *w, int events)
{
	struct capture *c = w->data;

	(void)loop;
	(void)events;
	lane_clock(c->l);
	capture_sweep(c);
}

void capture_start(struct capture *c, struct lane *l)
{
	c->l = l;
	ev_io_init(&c->io, on_readable, pcap_get_selectable_fd(c->pcap), EV_READ);
	c->io.data = c;
	ev_io_start(l->loop, &c->io);
}

void capture_end(struct capture *c)
{
	struct timespec ts;

	if (c->ending)
		return;
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	c->end_ts = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	c->ending = true;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	c->quiet_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

bool capture_ended(const struct capture *c)
{
	return c->ended;
}

/* --- opening --- */

static int why_not(int r, pcap_t *p, const char *iface, char err[static CAPTURE_ERR])
{
	switch (r) {
	case PCAP_ERROR_NO_SUCH_DEVICE:
		(void)snprintf(err, CAPTURE_ERR, "interface %s: there is no such interface", iface);
		return -ENODEV;
	case PCAP_ERROR_IFACE_NOT_UP:
		(void)snprintf(err, CAPTURE_ERR, "interface %s: it is down; bring it up (ip link set %s up)", iface,
			       iface);
		return -ENETDOWN;
	case PCAP_ERROR_PERM_DENIED:
	case PCAP_ERROR_PROMISC_PERM_DENIED:
		(void)snprintf(err, CAPTURE_ERR,
			       "interface %s: no permission to capture; start agentd as root, or with CAP_NET_RAW",
			       iface);
		return -EPERM;
	default:
		(void)snprintf(err, CAPTURE_ERR, "interface %s: cannot capture: %.200s", iface,
			       r == PCAP_ERROR ? pcap_geterr(p) : pcap_statustostr(r));
		return -EIO;
	}
}

/* Which link type will its packets have? */
static int choose_link(struct capture *c, char err[static CAPTURE_ERR])
{
	/* the one with the interface's index */
	if (c->ifindex == 0 && pcap_set_datalink(c->pcap, DLT_LINUX_SLL2) != 0)
		return why_not(PCAP_ERROR, c->pcap, c->want, err);
	c->link = pcap_datalink(c->pcap);
	switch (c->link) {
	case DLT_EN10MB:
	case DLT_LINUX_SLL:
	case DLT_LINUX_SLL2:
	case DLT_RAW:
	case DLT_NULL:
	case DLT_LOOP:
		return 0;
	}
	(void)snprintf(err, CAPTURE_ERR, "interface %s: its packets (%s) cannot be shown as Ethernet", c->want,
		       pcap_datalink_val_to_name(c->link));
	return -EPROTONOSUPPORT;
}

/* What is needed to know the interface again. */
static int know(struct capture *c, char err[static CAPTURE_ERR])
{
	struct ifreq q = {0};
	socklen_t len = sizeof(c->reserve);
	int fd = pcap_fileno(c->pcap);

	if (getsockopt(fd, SOL_PACKET, PACKET_RESERVE, &c->reserve, &len) == -1)
		c->reserve = 0;
	if (strcmp(c->want, "any") == 0)
		return 0;
	(void)snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", c->want);
	if (ioctl(fd, SIOCGIFINDEX, &q) == -1)
		return why_not(PCAP_ERROR_NO_SUCH_DEVICE, c->pcap, c->want, err);
	c->ifindex = q.ifr_ifindex;
	if (ioctl(fd, SIOCGIFHWADDR, &q) == 0)
		c->type = q.ifr_hwaddr.sa_family;
	return 0;
}

int capture_open(struct capture **ret, const char *iface, const char *filter, uint64_t buffer, struct own *own,
		 char err[static CAPTURE_ERR])
{
	char text[PCAP_ERRBUF_SIZE] = "out of memory";
	struct capture *c = calloc(1, sizeof(*c));
	int r = -ENOMEM;

	if (c == NULL || (c->pcap = pcap_create(iface, text)) == NULL) {
		(void)snprintf(err, CAPTURE_ERR, "interface %.20s: %.200s", iface, text);
		goto out;
	}
	(void)snprintf(c->want, sizeof(c->want), "%s", iface);
	(void)snprintf(c->name, sizeof(c->name), "%s", iface);
	c->own = own;
	r = -ENODEV;
	if (strlen(iface) >= IFNAMSIZ || (strcmp(iface, "any") != 0 && if_nametoindex(iface) == 0)) {
		(void)snprintf(err, CAPTURE_ERR, "interface %.40s: there is no such interface", iface);
		goto out;
	}
	(void)pcap_set_snaplen(c->pcap, CAPTURE_SNAPLEN);
	(void)pcap_set_timeout(c->pcap, BLOCK_MS);
	(void)pcap_set_buffer_size(c->pcap, buffer > INT_MAX ? INT_MAX : (int)buffer);
	(void)pcap_set_promisc(c->pcap, strcmp(iface, "any") != 0); /* what a mirror port would show */
	(void)pcap_set_tstamp_precision(c->pcap, PCAP_TSTAMP_PRECISION_NANO);
	r = pcap_activate(c->pcap);
	if (r < 0)
		r = why_not(r, c->pcap, iface, err);
	else if ((r = know(c, err)) == 0 && (r = choose_link(c, err)) == 0 && filter != NULL)
		r = filter_set(c->pcap, filter, err);
	if (r == 0 && pcap_setnonblock(c->pcap, 1, text) != 0)
		r = why_not(PCAP_ERROR, c->pcap, iface, err);
out:
	if (r != 0)
		capture_close(&c);
	else
		*ret = c;
	return r;
}

void capture_count(struct capture *c, struct capture_count *ret)
{
	count_drops(c);
	c->n.df = c->cut.df;
	*ret = c->n;
}

void capture_describe(const struct capture *c, char *ret, size_t size)
{
	static const char *const how[] = {[THERE] = "", [DOWN] = ", which is down", [GONE] = ", which is gone"};
	bool renamed = strcmp(c->name, c->want) != 0;

	(void)snprintf(ret, size, "%s%s%s%s%s", c->name, renamed ? " (was " : "", renamed ? c->want : "",
		       renamed ? ")" : "", how[c->state]);
}

static void on_unsent(u_char *arg, const struct pcap_pkthdr *h, const u_char *p)
{
	struct capture *c = (struct capture *)arg;
	uint64_t ts_ns = (uint64_t)h->ts.tv_sec * 1000000000u + (uint64_t)h->ts.tv_usec;

	(void)p;
	c->unsent += !c->ending || ts_ns < c->end_ts;
}

/* Packets that were seen and went nowhere: the sink took nothing any more. */
static void tell_unsent(struct capture *c)
{
	c->unsent = c->n.waiting;
	/* once around at most: packets come in all the time */
	for (int left = SWEEPS_MAX, r = 1; r > 0 && left > 0; left--)
		r = pcap_dispatch(c->pcap, SWEEP_PACKETS, on_unsent, (u_char *)c);
	if (c->unsent > 0)
		log_warn(COMPONENT, "interface %s: %llu packets that were captured are lost: nobody took them", c->name,
			 (unsigned long long)c->unsent);
}

void capture_close(struct capture **cp)
{
	struct capture *c = *cp;

	if (c == NULL)
		return;
	if (c->l != NULL)
		tell_unsent(c);
	if (c->l != NULL)
		ev_io_stop(c->l->loop, &c->io);
	if (c->pcap != NULL)
		pcap_close(c->pcap);
	free(c);
	*cp = NULL;
}
