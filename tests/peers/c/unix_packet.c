/* The other end of Unix sockets that keep messages apart.
 *
 * unix_packet records PATH   connects, sends 3 bytes, an empty record, 100,000 bytes, a record with a pipe's reading end; ends
 * unix_packet print PATH     connects, prints for each record: size, descriptors, whether it was cut at 4,096 bytes
 * unix_packet echo OWN N     receives N datagrams at OWN, and sends each back to its sender
 * unix_packet flood PATH N   sends N numbered datagrams
 */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char data[100000];

static int fail(const char *what)
{
    perror(what);
    return 1;
}

static struct sockaddr_un name(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return address;
}

static int send_descriptor(int sock, int fd)
{
    char text[] = "pipe";
    char space[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec piece = {text, 4};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return sendmsg(sock, &message, 0) < 0;
}

static int records(int sock)
{
    int ends[2];

    memset(data, 'x', sizeof data);
    if (send(sock, "one", 3, 0) < 0 || send(sock, "", 0, 0) < 0 || send(sock, data, sizeof data, 0) < 0)
        return fail("send");
    if (pipe(ends) < 0 || write(ends[1], "hello", 5) < 0 || send_descriptor(sock, ends[0]))
        return fail("sendmsg");
    return 0;
}

static int print(int sock)
{
    char space[CMSG_SPACE(253 * sizeof(int))];
    ssize_t size;

    for (;;) {
        struct iovec piece = {data, 4096};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
        struct cmsghdr *header;
        size_t fds = 0;

        size = recvmsg(sock, &message, 0);
        if (size < 0)
            return fail("recvmsg");
        if (size == 3 && memcmp(data, "bye", 3) == 0)
            return 0;
        header = CMSG_FIRSTHDR(&message);
        if (header != NULL)
            fds = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        printf("%zd %zu %s\n", size, fds, message.msg_flags & MSG_TRUNC ? "cut" : "whole");
        fflush(stdout);
    }
}

static int echo(int sock, int count)
{
    struct sockaddr_un sender;
    socklen_t length;
    ssize_t size;

    puts("ready");
    fflush(stdout);
    while (count--) {
        length = sizeof sender;
        size = recvfrom(sock, data, sizeof data, 0, (struct sockaddr *)&sender, &length);
        if (size < 0)
            return fail("recvfrom");
        if (sendto(sock, data, size, 0, (struct sockaddr *)&sender, length) < 0)
            return fail("sendto");
    }
    return 0;
}

static int flood(int sock, int count)
{
    int number, size;

    for (number = 0; number < count; number++) {
        size = sprintf(data, "%d", number);
        if (send(sock, data, size, 0) < 0)
            return fail("send");
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address;
    int connects, packets, sock;

    alarm(60);
    if (argc < 3)
        return 2;
    packets = strcmp(argv[1], "records") == 0 || strcmp(argv[1], "print") == 0;
    connects = strcmp(argv[1], "echo") != 0;
    address = name(argv[2]);
    sock = socket(AF_UNIX, packets ? SOCK_SEQPACKET : SOCK_DGRAM, 0);
    if (connects && connect(sock, (struct sockaddr *)&address, sizeof address) < 0)
        return fail("connect");
    if (!connects && bind(sock, (struct sockaddr *)&address, sizeof address) < 0)
        return fail("bind");
    if (packets)
        return strcmp(argv[1], "records") == 0 ? records(sock) : print(sock);
    return connects ? flood(sock, atoi(argv[3])) : echo(sock, atoi(argv[3]));
}
