/*
 * peerscope-sockets, the socket agent of peerscope: opens three netlink sockets, gives up every privilege, and forwards
 * raw messages to its clients without looking inside. Its only input is the 8-byte requests of one trusted user.
 * CAP_NET_BROADCAST is needed only to open: the kernel checks each event against the credentials of the opener.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/inet_diag.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/seccomp.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#error "the system call filter knows x86_64 and aarch64 only"
#endif

enum { PROTOCOL = 1, MAX_CLIENTS = 8, MAX_PAYLOAD = 65536, MAX_WAITING = 4 << 20, MAX_EVENTS_AT_ONCE = 1024 };
enum { RECEIVE_BUFFER = 4 << 20, BATCH_MS = 20, PATIENCE_MS = 10000, MAX_DESCRIPTORS = 65536, OWN = -1 };
enum { NO_GROUP = 65534 };
enum { HELLO = 1, DUMP, EVENT, OVERRUN, NSID, FAILED };
enum { ASK_DUMP = 1, ASK_NSID = 2 };

struct frame { uint32_t length; uint16_t kind, value; int32_t nsid; };
struct hello { uint32_t version, flags; uint64_t netns; uint32_t receive_buffer, reserved; };
struct request { uint8_t version, kind; uint16_t family; uint32_t pid; };
struct client {
    int fd;                 /* -1: free */
    uint16_t wanted;        /* the family of the dump that it waits for, or 0 */
    size_t received;        /* bytes of the request */
    unsigned char request[sizeof(struct request)];
    uint32_t lost;          /* events that it has not been told of */
    uint64_t waiting_since; /* when the client last took any of `bytes` */
    size_t waiting;
    unsigned char bytes[MAX_WAITING];
};

static struct client clients[MAX_CLIENTS];
static struct hello hello = { .version = PROTOCOL };
static _Alignas(8) unsigned char payload[MAX_PAYLOAD];
static int listener = -1, events, dumps, routes; /* the last three: a netlink socket, or -errno */
static uid_t allowed_uid;
static uint64_t now, events_at, accept_at; /* milliseconds: no event is read, and no client accepted, before */
static uint32_t drops, sequence;
static bool dumping;
static struct client *dump_client; /* NULL: the rest of the dump is discarded */
static volatile sig_atomic_t stopping;

#define EACH(client) struct client *client = clients; client < clients + MAX_CLIENTS; client++

/* Not dprintf, which needs a system call that the filter forbids. */
static _Noreturn void die(const char *action, const char *input, const char *reason) {
    char line[512];
    snprintf(line, sizeof line, "Cannot %s \"%s\": %s\n", action, input, reason);
    _exit(write(STDERR_FILENO, line, strlen(line)) < 0 ? 2 : 1);
}

static void stop(int number) { stopping = number; }

static void close_client(struct client *client) {
    close(client->fd);
    client->fd = -1;
    if (dump_client == client)
        dump_client = NULL;
}

static bool has_room(const struct client *client, size_t size) {
    return sizeof(struct frame) + size <= sizeof client->bytes - client->waiting;
}

/* Queues a frame. A client without room for it is closed. */
static void put(struct client *client, uint16_t kind, uint16_t value, int32_t nsid, const void *body, size_t size) {
    const struct frame frame = { (uint32_t)size, kind, value, nsid };
    if (!has_room(client, size)) {
        close_client(client);
        return;
    }
    if (client->waiting == 0)
        client->waiting_since = now;
    memcpy(client->bytes + client->waiting, &frame, sizeof frame);
    memcpy(client->bytes + client->waiting + sizeof frame, body, size);
    client->waiting += sizeof frame + size;
}

/* A client without room loses the event. */
static void put_event(int32_t nsid, size_t size) {
    for (EACH(client))
        if (client->fd >= 0 && has_room(client, size))
            put(client, EVENT, 0, nsid, payload, size);
        else
            client->lost++;
}

static void put_failed(struct client *client, uint16_t kind, int error, uint32_t subject) {
    const uint32_t body[] = { (uint32_t)error, subject };
    put(client, FAILED, kind, OWN, body, sizeof body);
}

/* Sends what waits. A client that takes none of it for PATIENCE_MS is closed. */
static void flush(struct client *client) {
    if (client->lost > 0 && has_room(client, sizeof client->lost)) {
        put(client, OVERRUN, 0, OWN, &client->lost, sizeof client->lost);
        client->lost = 0;
    }
    ssize_t sent = send(client->fd, client->bytes, client->waiting, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent > 0) {
        client->waiting_since = now;
        client->waiting -= (size_t)sent;
        memmove(client->bytes, client->bytes + sent, client->waiting);
    }
    if ((sent < 0 && errno != EAGAIN) || (client->waiting > 0 && now - client->waiting_since >= PATIENCE_MS))
        close_client(client);
}

static void open_client(int fd) {
    for (EACH(client)) {
        if (client->fd >= 0)
            continue;
        memset(client, 0, offsetof(struct client, bytes));
        client->fd = fd;
        put(client, HELLO, 0, OWN, &hello, sizeof hello);
        return;
    }
    close(fd);
}

static void accept_client(void) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        accept_at = now + BATCH_MS;
    else if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != allowed_uid)
        close(fd);
    else
        open_client(fd);
}

/* Returns the size of a datagram of the kernel, 0 for one that a process sent, or -errno. */
static ssize_t receive(int fd, void *to, size_t size, int32_t *nsid) {
    union { struct cmsghdr first; unsigned char bytes[256]; } control;
    struct sockaddr_nl from = { 0 };
    struct iovec part = { to, size };
    struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                              .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT);
    if (received < 0)
        return -errno;
    if (message.msg_namelen != sizeof from || from.nl_pid != 0)
        return 0;
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        return -EMSGSIZE;
    *nsid = OWN;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_NETLINK && c->cmsg_type == NETLINK_LISTEN_ALL_NSID &&
            c->cmsg_len == CMSG_LEN(sizeof *nsid))
            memcpy(nsid, CMSG_DATA(c), sizeof *nsid);
    return received;
}

/* Counts the events that the kernel has dropped so far. Until the queue is empty, only the first one gives ENOBUFS. */
static void count_drops(void) {
    uint32_t memory[SK_MEMINFO_VARS] = { 0 };
    socklen_t size = sizeof memory;
    getsockopt(events, SOL_SOCKET, SO_MEMINFO, memory, &size);
    const uint32_t lost = memory[SK_MEMINFO_DROPS] - drops;
    drops += lost;
    for (EACH(client))
        client->lost += lost;
}

static void read_events(void) {
    int32_t nsid;
    for (int i = 0; i < MAX_EVENTS_AT_ONCE; i++) {
        const ssize_t size = receive(events, payload, sizeof payload, &nsid);
        if (size > 0)
            put_event(nsid, (size_t)size);
        else if (size == -EAGAIN)
            break;
        else if (size < 0 && size != -ENOBUFS)
            die("read", "events", strerror((int)-size));
    }
    count_drops();
    events_at = now + BATCH_MS;
}

/* Returns 0 or an errno. */
static int ask_kernel(int fd, const void *request, size_t size) {
    if (fd < 0)
        return -fd;
    return send(fd, request, size, MSG_DONTWAIT) < 0 ? errno : 0;
}

static void start_dump(struct client *client) {
    const struct { struct nlmsghdr header; struct inet_diag_req_v2 body; } request = {
        { sizeof request, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, ++sequence, 0 },
        { .sdiag_family = (uint8_t)client->wanted, .sdiag_protocol = IPPROTO_TCP,
          .idiag_ext = 1 << (INET_DIAG_INFO - 1), .idiag_states = 0x1ffe } };
    const int error = ask_kernel(dumps, &request, sizeof request);
    dumping = error == 0;
    if (dumping) {
        dump_client = client;
        return;
    }
    put_failed(client, ASK_DUMP, error, client->wanted);
    client->wanted = 0;
}

/* One dump at a time; the clients take turns. */
static void start_next_dump(void) {
    static unsigned turn;
    for (int i = 0; i < MAX_CLIENTS && !dumping; i++) {
        struct client *client = &clients[turn++ % MAX_CLIENTS];
        if (client->fd >= 0 && client->wanted != 0)
            start_dump(client);
    }
}

/* Returns whether the datagram in `payload` is the last of the current dump. */
static bool ends_dump(int size) {
    const struct nlmsghdr *message = (const void *)payload;
    for (; NLMSG_OK(message, size); message = NLMSG_NEXT(message, size))
        if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
            return message->nlmsg_seq == sequence;
    return false;
}

/* Whether the client of the current dump has taken all bytes so far. */
static bool is_dump_ready(void) { return dumping && (dump_client == NULL || dump_client->waiting == 0); }

static void read_dump(void) {
    int32_t nsid;
    ssize_t size = receive(dumps, payload, sizeof payload, &nsid);
    if (size < 0)
        die("read", "a dump", strerror((int)-size));
    dumping = !ends_dump((int)size);
    if (dump_client == NULL || size == 0)
        return;
    struct client *client = dump_client;
    put(client, DUMP, client->wanted, OWN, payload, (size_t)size);
    if (!dumping) {
        client->wanted = 0;
        dump_client = NULL;
    }
}

static void answer_nsid(struct client *client, uint32_t pid) {
    const struct { struct nlmsghdr header; uint8_t family[4]; struct rtattr attribute; uint32_t pid; } request = {
        { sizeof request, RTM_GETNSID, NLM_F_REQUEST, 0, 0 }, { AF_UNSPEC },
        { RTA_LENGTH(sizeof pid), NETNSA_PID }, pid };
    int32_t nsid;
    ssize_t size = -ask_kernel(routes, &request, sizeof request);
    if (size == 0)
        size = receive(routes, payload + sizeof pid, sizeof payload - sizeof pid, &nsid);
    memcpy(payload, &pid, sizeof pid);
    if (size > 0)
        put(client, NSID, 0, OWN, payload, sizeof pid + (size_t)size);
    else
        put_failed(client, ASK_NSID, (int)-size, pid);
}

static void read_request(struct client *client) {
    struct request request;
    const size_t missing = sizeof request - client->received;
    const ssize_t size = recv(client->fd, client->request + client->received, missing, MSG_DONTWAIT);
    if (size > 0)
        client->received += (size_t)size;
    if (size > 0 && client->received < sizeof request)
        return;
    memcpy(&request, client->request, sizeof request);
    client->received = 0;
    if (size <= 0 || request.version != PROTOCOL)
        close_client(client);
    else if (request.kind == ASK_NSID)
        answer_nsid(client, request.pid);
    else if (request.kind == ASK_DUMP && (request.family == AF_INET || request.family == AF_INET6))
        client->wanted = request.family;
    else
        close_client(client);
}

/* Says what to wait for. Returns the milliseconds to wait at most, or -1. */
static int plan(struct pollfd *polled) {
    bool timed = events_at > now || accept_at > now;
    polled[0] = (struct pollfd){ events_at > now ? -1 : events, POLLIN, 0 };
    polled[1] = (struct pollfd){ accept_at > now ? -1 : listener, POLLIN, 0 };
    for (EACH(client)) {
        const short input = client->wanted == 0 ? POLLIN : 0;
        polled[2 + (client - clients)] = (struct pollfd){ client->fd, client->waiting > 0 ? POLLOUT : input, 0 };
        timed = timed || (client->fd >= 0 && client->waiting > 0);
    }
    return is_dump_ready() ? 0 : timed ? BATCH_MS : -1;
}

/* Signals are blocked except while ppoll waits, so that they interrupt no other call. */
static void serve(void) {
    struct pollfd polled[2 + MAX_CLIENTS];
    sigset_t none;
    sigemptyset(&none);
    while (!stopping && (listener >= 0 || clients[0].fd >= 0)) {
        const int wait = plan(polled);
        const struct timespec timeout = { 0, wait * 1000000L };
        const int ready = ppoll(polled, 2 + MAX_CLIENTS, wait < 0 ? NULL : &timeout, &none);
        if (ready < 0 && errno != EINTR)
            die("wait for", "sockets", strerror(errno));
        struct timespec time;
        clock_gettime(CLOCK_MONOTONIC, &time);
        now = (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
        for (int i = 0; ready > 0 && i < MAX_CLIENTS; i++)
            if (polled[2 + i].revents & (POLLERR | POLLHUP))
                close_client(&clients[i]);
            else if (polled[2 + i].revents & POLLIN)
                read_request(&clients[i]);
        if (ready > 0 && polled[0].revents != 0)
            read_events();
        if (ready > 0 && polled[1].revents != 0)
            accept_client();
        if (is_dump_ready())
            read_dump();
        start_next_dump();
        for (EACH(client))
            if (client->fd >= 0 && (client->waiting > 0 || client->lost > 0))
                flush(client);
    }
}

/* Drops every capability but those of `kept` that it has, and makes these effective. */
static void limit_capabilities(uint32_t kept) {
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    bool failed = syscall(SYS_capget, &header, data) != 0;
    kept &= failed ? 0 : data[0].permitted;
    data[0] = (struct __user_cap_data_struct){ kept, kept, 0 };
    data[1] = (struct __user_cap_data_struct){ 0, 0, 0 };
    if (failed || syscall(SYS_capset, &header, data) != 0)
        die("limit", "capabilities", strerror(errno));
}

/* Returns a socket or -errno. */
static int open_netlink(int protocol) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    return fd < 0 ? -errno : fd;
}

/* Joins the groups of ended TCP sockets. If that fails, HELLO has a receive buffer of 0. */
static int open_events(bool needs_all) {
    const int size = RECEIVE_BUFFER, on = 1;
    const struct sockaddr_nl groups = { .nl_family = AF_NETLINK,
        .nl_groups = 1 << (SKNLGRP_INET_TCP_DESTROY - 1) | 1 << (SKNLGRP_INET6_TCP_DESTROY - 1) };
    socklen_t length = sizeof hello.receive_buffer;
    const int fd = open_netlink(NETLINK_SOCK_DIAG);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    hello.flags = setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on) == 0;
    if (needs_all && hello.flags == 0)
        die("listen to", "--all", strerror(errno));
    if (fd < 0 || bind(fd, (const struct sockaddr *)&groups, sizeof groups) != 0)
        return fd < 0 ? fd : -errno;
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &hello.receive_buffer, &length);
    return fd;
}

static void open_sockets(bool needs_all) {
    struct stat netns;
    limit_capabilities(1 << CAP_NET_BROADCAST | 1 << CAP_NET_ADMIN | 1 << CAP_SETUID | 1 << CAP_SETGID);
    events = open_events(needs_all);
    dumps = open_netlink(NETLINK_SOCK_DIAG);
    routes = open_netlink(NETLINK_ROUTE);
    if (stat("/proc/self/ns/net", &netns) == 0)
        hello.netns = netns.st_ino;
}

static void drop_privileges(uid_t uid) {
    const bool changes = uid != geteuid();
    if ((changes && (setgroups(0, NULL) != 0 || setresgid(NO_GROUP, NO_GROUP, NO_GROUP) != 0)) ||
        setresuid(uid, uid, uid) != 0)
        die("become", "--uid", strerror(errno));
    limit_capabilities(0);
    /* Not dumpable: no process of the same user can attach. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        die("drop", "privileges", strerror(errno));
}

/* Leaves descriptors 0 to 2, opens those that are not, and moves `kept` to 3. */
static void close_inherited(int kept) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    if (fd < 0)
        die("open", "/dev/null", strerror(errno));
    if (kept >= 0 && dup2(kept, 3) < 0)
        die("use", "--fd", strerror(errno));
    for (int other = kept >= 0 ? 4 : 3; other < MAX_DESCRIPTORS; other++)
        close(other);
}

/* Replaces the socket of an agent that has ended. The mode of the new one is 0600. */
static void listen_on(const char *path) {
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat found;
    if (path[0] != '/' || strlen(path) >= sizeof address.sun_path)
        die("listen on", path, "the path must start with / and have at most 107 bytes");
    memcpy(address.sun_path, path, strlen(path));
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (lstat(path, &found) == 0) {
        if (!S_ISSOCK(found.st_mode))
            die("listen on", path, "it exists and is not a socket");
        if (connect(listener, (const struct sockaddr *)&address, sizeof address) == 0 || errno != ECONNREFUSED)
            die("listen on", path, "another process uses it");
        unlink(path);
    }
    umask(0177);
    if (bind(listener, (const struct sockaddr *)&address, sizeof address) != 0 || listen(listener, SOMAXCONN) != 0)
        die("listen on", path, strerror(errno));
    fprintf(stderr, "Listening on %s; ended sockets of %s\n", path,
            hello.flags != 0 ? "all namespaces with an nsid" : "this namespace");
}

static void block_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGTERM, stop);
    signal(SIGINT, stop);
}

/* From here on, any other system call kills the process. The last two are for --listen alone. */
static void filter_system_calls(void) {
    static const uint32_t calls[] = { SYS_ppoll, SYS_recvmsg, SYS_recvfrom, SYS_sendto, SYS_getsockopt, SYS_close,
        SYS_write, SYS_clock_gettime, SYS_rt_sigreturn, SYS_exit_group, SYS_accept4, SYS_unlinkat };
    const size_t count = sizeof calls / sizeof *calls - (listener < 0 ? 2 : 0);
    struct sock_filter code[5 + 2 * sizeof calls / sizeof *calls] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    unsigned short size = 4;
    for (size_t i = 0; i < count; i++) {
        code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
        code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    const struct sock_fprog program = { size, code };
#ifndef __SANITIZE_ADDRESS__ /* its runtime needs more system calls */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        die("set", "the system call filter", strerror(errno));
#endif
    (void)program;
}

/* The number of an option, or -1 if there is none. */
static long number(const char *option, const char *text) {
    char *end = NULL;
    const long value = text != NULL && *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : -1;
    if (end == NULL || *end != '\0' || value > INT32_MAX)
        die("use", option, "it needs a number");
    return value;
}

static const char usage[] =
    "Usage: peerscope-sockets --fd N [--all]\n"
    "       peerscope-sockets --listen PATH --uid UID [--all]\n"
    "Forwards the TCP sockets of this network namespace, and those that end, from the kernel to peerscope.\n\n"
    "  --fd N         Serve the client at descriptor N, a stream socket, and exit when it closes.\n"
    "  --listen PATH  Listen on a Unix socket at PATH, owned by the user of --uid, with mode 0600.\n"
    "  --uid UID      Serve this user only, 8 clients at most. Root switches to this user.\n"
    "  --all          Exit if ended sockets of other namespaces are not available. They need\n"
    "                 CAP_NET_BROADCAST. Without this option, they are included where possible.\n"
    "  --version      Print the version of the protocol.\n"
    "  --help         Print this help.\n";

static bool is_stream(int fd) {
    int type = 0;
    socklen_t size = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

int main(int count, char **arguments) {
    long fd = -1, uid = -1;
    const char *path = NULL;
    bool needs_all = false;
    for (int i = 1; i < count; i++) {
        const char *option = arguments[i];
        if (strcmp(option, "--all") == 0)
            needs_all = true;
        else if (strcmp(option, "--fd") == 0)
            fd = number(option, arguments[++i]);
        else if (strcmp(option, "--uid") == 0)
            uid = number(option, arguments[++i]);
        else if (strcmp(option, "--listen") == 0 && i + 1 < count)
            path = arguments[++i];
        else if (strcmp(option, "--version") == 0)
            return printf("peerscope-sockets, protocol %d\n", PROTOCOL) < 0;
        else if (strcmp(option, "--help") == 0)
            return fputs(usage, stdout) < 0;
        else
            die("use", option, "no such option, or its value is missing; see --help");
    }
    if ((path == NULL) != (uid < 0) || (path == NULL) != (fd >= 0))
        die("use", "the options", "they must be --fd, or --listen and --uid; see --help");
    if (path == NULL && (fd < 3 || !is_stream((int)fd)))
        die("use", "--fd", "it is not a stream socket with a descriptor of 3 or more");

    close_inherited((int)fd);
    block_signals();
    open_sockets(needs_all);
    drop_privileges(path != NULL ? (uid_t)uid : getuid());
    for (EACH(client))
        client->fd = -1;
    if (path != NULL)
        listen_on(path);
    else
        open_client(3);
    allowed_uid = getuid();
    if (path == NULL)
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    filter_system_calls();
    serve();
    if (path != NULL)
        unlinkat(AT_FDCWD, path, 0);
    _exit(0);
}
