/*
 * peerscope-sockets, the socket agent of peerscope: opens three netlink sockets, gives up every privilege, and forwards
 * raw messages to one client without looking inside. Its only input is the 8-byte requests of this client.
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

enum { PROTOCOL = 1, BUFFER = 4 << 20, MAX_PAYLOAD = 65536, BATCH_MS = 20, OWN = -1, MAX_FD = 65535, NO_GROUP = 65534 };
enum { HELLO = 1, DUMP, EVENT, OVERRUN, NSID, FAILED };
enum { ASK_DUMP = 1, ASK_NSID = 2 };

static struct { uint32_t version, flags; uint64_t netns; uint32_t buffer, zero; } hello = { .version = PROTOCOL };
static struct { uint8_t version, kind; uint16_t family; uint32_t pid; } request;
static size_t requested; /* bytes of `request` */
static int events, dumps, routes, listener = -1, client = -1;
static const char *socket_path;
static uint64_t events_at; /* milliseconds: no event is read before */
static uint32_t drops;     /* events that the kernel dropped, as last counted */
static _Alignas(8) unsigned char payload[MAX_PAYLOAD + sizeof(uint32_t)], output[2 * MAX_PAYLOAD];
static size_t waiting; /* bytes of `output` */

/* Not dprintf, which needs a system call that the filter forbids. */
static _Noreturn void die(const char *action, const char *input, const char *reason) {
    char line[512];
    snprintf(line, sizeof line, "Cannot %s \"%s\": %s\n", action, input, reason);
    _exit(write(STDERR_FILENO, line, strlen(line)) < 0 ? 2 : 1);
}

static void check(bool succeeded, const char *action, const char *input) {
    if (!succeeded)
        die(action, input, strerror(errno));
}

static void accept_client(void);

static void close_client(void) {
    close(client);
    client = -1;
    waiting = requested = 0;
}

/* Waits until the client has taken all, or is gone. Meanwhile, events and requests stay in the kernel. */
static void flush(void) {
    while (waiting > 0) {
        const ssize_t sent = send(client, output, waiting, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) {
            waiting -= (size_t)sent;
            memmove(output, output + sent, waiting);
        } else if (errno != EAGAIN) {
            close_client();
        } else {
            struct pollfd polled[] = { { listener, POLLIN, 0 }, { client, POLLOUT, 0 } };
            ppoll(polled, 2, NULL, NULL);
            if (polled[0].revents != 0 && polled[1].revents == 0)
                accept_client();
        }
    }
}

/* Without a client, the frame is discarded. */
static void put(uint16_t kind, uint16_t value, int32_t nsid, const void *body, size_t size) {
    struct { uint32_t length; uint16_t kind, value; int32_t nsid; } header = { (uint32_t)size, kind, value, nsid };
    if (sizeof header + size > sizeof output - waiting)
        flush();
    if (client < 0)
        return;
    memcpy(output + waiting, &header, sizeof header);
    memcpy(output + waiting + sizeof header, body, size);
    waiting += sizeof header + size;
}

static void put_failed(int error, uint32_t subject) {
    const uint32_t body[] = { (uint32_t)error, subject };
    put(FAILED, request.kind, OWN, body, sizeof body);
}

/* Reads a datagram of the kernel into `payload`. Returns its size, 0 if some were lost, or -1 if there is none. */
static ssize_t receive(int fd, int32_t *nsid) {
    union { struct cmsghdr first; unsigned char bytes[256]; } control;
    struct sockaddr_nl from = { 0 };
    struct iovec part = { payload, MAX_PAYLOAD };
    struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1,
                              .msg_control = &control, .msg_controllen = sizeof control };
    const ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == ENOBUFS))
        return errno == EAGAIN ? -1 : 0;
    check(size >= 0, "read", "netlink");
    if (from.nl_pid != 0 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        die("read", "netlink", "a message is too long or not from the kernel");
    const struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *nsid = OWN;
    if (c != NULL && c->cmsg_type == NETLINK_LISTEN_ALL_NSID && c->cmsg_len == CMSG_LEN(sizeof *nsid))
        memcpy(nsid, CMSG_DATA(c), sizeof *nsid);
    return size;
}

static uint64_t milliseconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

/* Reads all that the receive buffer can hold. ENOBUFS does not say how many events were lost, but SO_MEMINFO does. */
static void read_events(void) {
    uint32_t memory[SK_MEMINFO_VARS];
    socklen_t length = sizeof memory;
    int32_t nsid;
    ssize_t size = 0;
    for (int i = 0; i < BUFFER / 256 && size >= 0; i++) {
        size = receive(events, &nsid);
        if (size > 0)
            put(EVENT, 0, nsid, payload, (size_t)size);
    }
    check(getsockopt(events, SOL_SOCKET, SO_MEMINFO, memory, &length) == 0, "count", "lost events");
    const uint32_t lost = memory[SK_MEMINFO_DROPS] - drops;
    drops += lost;
    if (lost > 0)
        put(OVERRUN, 0, OWN, &lost, sizeof lost);
    events_at = milliseconds() + BATCH_MS;
}

/* Ends when the kernel has sent all, even without a client. */
static void dump(uint16_t family) {
    const struct { struct nlmsghdr header; struct inet_diag_req_v2 body; } question = {
        { sizeof question, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0 },
        { .sdiag_family = (uint8_t)family, .sdiag_protocol = IPPROTO_TCP,
          .idiag_ext = 1 << (INET_DIAG_INFO - 1), .idiag_states = 0x1ffe } };
    int32_t nsid;
    bool more = send(dumps, &question, sizeof question, MSG_DONTWAIT) > 0;
    if (!more)
        put_failed(errno, family);
    while (more) {
        const ssize_t size = receive(dumps, &nsid);
        check(size >= 0, "read", "a dump");
        if (size > 0)
            put(DUMP, family, OWN, payload, (size_t)size);
        int rest = (int)size;
        for (const struct nlmsghdr *m = (const void *)payload; NLMSG_OK(m, rest); m = NLMSG_NEXT(m, rest))
            more = more && m->nlmsg_type != NLMSG_DONE && m->nlmsg_type != NLMSG_ERROR;
        read_events();
    }
}

static void answer_nsid(uint32_t pid) {
    const struct { struct nlmsghdr header; uint8_t family[4]; struct rtattr attribute; uint32_t pid; } question = {
        { sizeof question, RTM_GETNSID, NLM_F_REQUEST, 0, 0 }, { 0 }, { RTA_LENGTH(sizeof pid), NETNSA_PID }, pid };
    int32_t nsid;
    const ssize_t size = send(routes, &question, sizeof question, MSG_DONTWAIT) < 0 ? -1 : receive(routes, &nsid);
    if (size > 0) {
        memmove(payload + sizeof pid, payload, (size_t)size);
        memcpy(payload, &pid, sizeof pid);
        put(NSID, 0, OWN, payload, sizeof pid + (size_t)size);
    } else {
        put_failed(errno, pid);
    }
}

/* Anything but a request closes the client. */
static void read_request(void) {
    const ssize_t size = recv(client, (char *)&request + requested, sizeof request - requested, MSG_DONTWAIT);
    requested += size > 0 ? (size_t)size : 0;
    if (size > 0 && requested < sizeof request)
        return;
    const bool valid = size > 0 && request.version == PROTOCOL;
    requested = 0;
    if (valid && request.kind == ASK_NSID) {
        answer_nsid(request.pid);
    } else if (valid && request.kind == ASK_DUMP && (request.family == AF_INET || request.family == AF_INET6)) {
        dump(request.family);
    } else {
        close_client();
    }
}

/* A client gets only events after its HELLO: those before are discarded. */
static void open_client(int fd) {
    read_events();
    client = fd;
    put(HELLO, 0, OWN, &hello, sizeof hello);
}

static void accept_client(void) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        ppoll(NULL, 0, &(struct timespec){ .tv_nsec = BATCH_MS * 1000000L }, NULL);
    else if (client >= 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != getuid())
        close(fd);
    else
        open_client(fd);
}

static void serve(void) {
    for (flush(); listener >= 0 || client >= 0; flush()) {
        const bool early = client >= 0 && milliseconds() < events_at;
        /* The listener comes first: a client may close and connect again. */
        struct pollfd polled[] = { { listener, POLLIN, 0 },
                                   { client, POLLIN, 0 },
                                   { client >= 0 && !early ? events : -1, POLLIN, 0 } };
        ppoll(polled, 3, early ? &(struct timespec){ .tv_nsec = BATCH_MS * 1000000L } : NULL, NULL);
        if (polled[1].revents & (POLLERR | POLLHUP))
            close_client();
        else if (polled[1].revents != 0)
            read_request();
        if (polled[2].revents != 0)
            read_events();
        if (polled[0].revents != 0)
            accept_client();
    }
}

/* Drops every capability but those of `kept` that it has, and makes these effective. */
static void limit_capabilities(uint32_t kept) {
    struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
    struct __user_cap_data_struct data[2];
    check(syscall(SYS_capget, &header, data) == 0, "read", "capabilities");
    kept &= data[0].permitted;
    data[0] = (struct __user_cap_data_struct){ kept, kept, 0 };
    data[1] = (struct __user_cap_data_struct){ 0, 0, 0 };
    check(syscall(SYS_capset, &header, data) == 0, "limit", "capabilities");
}

static void open_sockets(bool needs_all) {
    const int size = BUFFER, on = 1;
    const struct sockaddr_nl groups = { .nl_family = AF_NETLINK,
        .nl_groups = 1 << (SKNLGRP_INET_TCP_DESTROY - 1) | 1 << (SKNLGRP_INET6_TCP_DESTROY - 1) };
    socklen_t length = sizeof hello.buffer;
    struct stat netns = { 0 };
    events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    dumps = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    routes = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    check(events >= 0 && dumps >= 0 && routes >= 0, "open", "netlink");
    if (setsockopt(events, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(events, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    hello.flags = setsockopt(events, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof on) == 0;
    check(!needs_all || hello.flags != 0, "listen to", "--all");
    check(bind(events, (const struct sockaddr *)&groups, sizeof groups) == 0, "listen to", "ended sockets");
    getsockopt(events, SOL_SOCKET, SO_RCVBUF, &hello.buffer, &length);
    stat("/proc/self/ns/net", &netns);
    hello.netns = netns.st_ino;
}

/* Not dumpable: no process of the same user can attach. */
static void drop_privileges(uid_t uid) {
    if (uid != geteuid())
        check(setgroups(0, NULL) == 0 && setresgid(NO_GROUP, NO_GROUP, NO_GROUP) == 0, "become", "--uid");
    check(setresuid(uid, uid, uid) == 0, "become", "--uid");
    limit_capabilities(0);
    check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "drop", "privileges");
}

/* Leaves descriptors 0 to 2, opens those that are not, and moves `kept` to 3. */
static void close_inherited(int kept) {
    int opened = 0;
    while (opened >= 0 && opened <= 2)
        opened = open("/dev/null", O_RDWR);
    check(opened >= 0, "open", "/dev/null");
    check(kept < 0 || dup2(kept, 3) == 3, "use", "--fd");
    const int first = kept < 0 ? 3 : 4;
#ifdef SYS_close_range
    /* Before Linux 5.9, each is closed by itself. */
    if (syscall(SYS_close_range, first, ~0U, 0) == 0)
        return;
#endif
    for (int other = first; other <= MAX_FD; other++)
        close(other);
}

static void remove_socket(int number) {
    (void)number;
    unlinkat(AT_FDCWD, socket_path, 0);
    _exit(0);
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
    check(bind(listener, (const struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 16) == 0,
          "listen on", path);
    socket_path = path;
    signal(SIGTERM, remove_socket);
    fprintf(stderr, "Listening on %s; ended sockets of %s\n", path,
            hello.flags != 0 ? "all namespaces with an nsid" : "this namespace");
}

/* From here on, any other system call kills the process. */
static void filter_system_calls(void) {
#define ON(call, action) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), BPF_STMT(BPF_RET | BPF_K, action)
    const uint32_t allow = SECCOMP_RET_ALLOW, kill = SECCOMP_RET_KILL_PROCESS, listening = listener < 0 ? kill : allow;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, kill),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ON(ppoll, allow), ON(recvmsg, allow), ON(sendto, allow), ON(recvfrom, allow), ON(getsockopt, allow),
        ON(clock_gettime, allow), ON(close, allow), ON(write, allow), ON(exit_group, allow),
        ON(accept4, listening), ON(getuid, listening), ON(unlinkat, listening),
        BPF_STMT(BPF_RET | BPF_K, kill),
    };
    const struct sock_fprog program = { sizeof code / sizeof *code, code };
#ifndef __SANITIZE_ADDRESS__ /* its runtime needs more system calls */
    check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0, "set", "the system call filter");
#endif
    (void)program;
}

static int number(const char *option, const char *text) {
    char *end;
    const long value = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value > INT32_MAX)
        die("use", option, "it needs a number");
    return (int)value;
}

static const char usage[] =
    "Usage: peerscope-sockets --fd N [--all]                    serve the stream socket N until it closes\n"
    "       peerscope-sockets --listen PATH --uid UID [--all]   serve one client at a time, of this user only\n"
    "Forwards the TCP sockets of this network namespace, and those that end, from the kernel to peerscope. With\n"
    "CAP_NET_BROADCAST, also those that end in other namespaces. --all: fail if these are not available.\n";

int main(int count, char **arguments) {
    const bool needs_all = count > 1 && strcmp(arguments[count - 1], "--all") == 0;
    const int last = count - 1 - needs_all;
    const bool inherits = last == 2 && strcmp(arguments[1], "--fd") == 0;
    const bool listens = last == 4 && strcmp(arguments[1], "--listen") == 0 && strcmp(arguments[3], "--uid") == 0;
    if (count == 2 && strcmp(arguments[1], "--version") == 0)
        return printf("peerscope-sockets, protocol %d\n", PROTOCOL) < 0;
    if (count == 2 && strcmp(arguments[1], "--help") == 0)
        return fputs(usage, stdout) < 0;
    if (!inherits && !listens)
        die("use", "the arguments", "see --help");
    const int value = number(arguments[last - 1], arguments[last]);
    close_inherited(inherits ? value : -1);
    limit_capabilities(1 << CAP_NET_BROADCAST | 1 << CAP_NET_ADMIN | 1 << CAP_SETUID | 1 << CAP_SETGID);
    open_sockets(needs_all);
    drop_privileges(inherits ? getuid() : (uid_t)value);
    if (listens)
        listen_on(arguments[2]);
    else
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    filter_system_calls();
    if (inherits)
        open_client(3);
    serve();
    _exit(0);
}
