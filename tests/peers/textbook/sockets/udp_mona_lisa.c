/* Notes: udp_mona_lisa receiver PORT prints one datagram; udp_mona_lisa sender PORT TEXT sends it. */

#include "sockets.h"

int main(int argc, char **argv)
{
    int fd = checked("socket", socket(AF_INET, SOCK_DGRAM, 0)), size;
    struct sockaddr_in address = numbered(argv[2]);
    struct sockaddr *any = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    char data[1000];

    if (is(argv, "sender")) {
        checked("sendto", sendto(fd, argv[3], strlen(argv[3]), 0, any, length));
        printf("sent %zu bytes\n", strlen(argv[3]));
        return 0;
    }
    checked("bind", bind(fd, any, length));
    printf("receiving at port %d\n", port_of(fd));
    size = checked("recvfrom", recvfrom(fd, data, sizeof data, 0, any, &length));
    printf("from %s: \"%.*s\"\n", inet_ntoa(address.sin_addr), size, data);
    return 0;
}
