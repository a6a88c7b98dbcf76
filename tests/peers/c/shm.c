/* One end of a shm: channel, written from docs/reference/shm.md alone: sends each message back with every bit turned over.
 *
 *     shm connect PATH CAPACITY      makes the memory, as a client does
 *     shm listen PATH                says "ready", and takes the memory of who connects
 *
 * Ends with 0 when the peer has ended its direction, after having ended its own. It takes no part in membarrier(2): its two
 * "sleeps" stay 2, and so do the peer's.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW)
#define SKIP (1ULL << 63)
#define PART (1ULL << 62)

typedef _Atomic uint64_t number;
struct direction {
	number published; char gap1[120];
	number consumed; char gap2[120];
	number reader_sleeps; char gap3[120];
	number writer_sleeps; char gap4[120];
	number ended; char gap5[120];
	number registered; char gap6[2048 - 5 * 128 - 8];
};

static struct direction *in, *out;
static char *in_ring, *out_ring;
static uint64_t capacity, taken, written;
static int bell;

static void fail(const char *what) { perror(what); exit(1); }

static void doorbell(number *flag)
{
	uint64_t sleeps = atomic_load(flag);
	if (!sleeps)
		return;
	if (sleeps == 1)
		atomic_store(flag, 0);
	send(bell, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Drain, and if nothing was there, wait. 0: the peer has hung up. */
static int wait_for_bell(void)
{
	char bytes[4096];
	struct pollfd readable = { bell, POLLIN, 0 };
	poll(&readable, 1, -1);
	return recv(bell, bytes, sizeof bytes, MSG_DONTWAIT) > 0;
}

static char *receive(uint64_t *size)
{
	char *message = NULL;
	*size = 0;
	for (;;) {
		while (atomic_load(&in->published) == taken) {
			int ended = atomic_load(&in->ended) != 0;
			if (ended && atomic_load(&in->published) == taken)
				return NULL;
			if (!ended && !wait_for_bell() && atomic_load(&in->published) == taken)
				return NULL;
		}
		uint64_t offset = taken % capacity, header = *(uint64_t *)(in_ring + offset);
		if (header == SKIP) {
			taken += capacity - offset;
			atomic_store(&in->consumed, taken);
			doorbell(&in->writer_sleeps);
			continue;
		}
		uint64_t length = header & ~PART, before = header & PART ? 8 : 0;
		message = realloc(message, *size + length - before + 1);
		memcpy(message + *size, in_ring + offset + 8 + before, length - before);
		*size += length - before;
		taken += (length + 15) & -8;
		atomic_store(&in->consumed, taken);
		doorbell(&in->writer_sleeps);
		if (!before)
			return message;
	}
}

static void transmit(const char *message, uint64_t size)
{
	for (;;) {
		uint64_t most = capacity / 2 - 8, part = size > most ? PART : 0;
		uint64_t length = part ? capacity / 4 : size, room = (length + 15) & -8;
		uint64_t offset = written % capacity, skipped = offset + room > capacity ? capacity - offset : 0;
		while (written + skipped + room > atomic_load(&out->consumed) + capacity)
			if (!wait_for_bell())
				exit(0);
		if (skipped) {
			*(uint64_t *)(out_ring + offset) = SKIP;
			written += skipped;
			offset = 0;
		}
		*(uint64_t *)(out_ring + offset) = length | part;
		if (part)
			*(uint64_t *)(out_ring + offset + 8) = size;
		uint64_t before = part ? 8 : 0;
		memcpy(out_ring + offset + 8 + before, message, length - before);
		written += room;
		atomic_store(&out->published, written);
		doorbell(&out->reader_sleeps);
		message += length - before;
		size -= length - before;
		if (!part)
			return;
	}
}

static void map(int fd, int ours)
{
	struct stat status;
	if (fcntl(fd, F_GET_SEALS) != SEALS || fstat(fd, &status))
		fail("not sealed");
	capacity = (status.st_size - 4096) / 2;
	char *memory = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	close(fd);
	struct direction *directions = (struct direction *)memory;
	out = &directions[ours], in = &directions[1 - ours];
	out_ring = memory + 4096 + capacity * ours, in_ring = memory + 4096 + capacity * (1 - ours);
}

static void offer(uint64_t bytes)
{
	int fd = memfd_create("c ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, 4096 + 2 * bytes) || fcntl(fd, F_ADD_SEALS, SEALS))
		fail("memfd");
	char control[CMSG_SPACE(sizeof fd)] = { 0 };
	struct iovec hello = { "aipcshm1", 8 };
	struct msghdr message = { .msg_iov = &hello, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	header->cmsg_level = SOL_SOCKET, header->cmsg_type = SCM_RIGHTS, header->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(header), &fd, sizeof fd);
	int kept = dup(fd);
	map(kept, 1);
	for (struct direction *each = out - 1; each <= out; each++)
		each->reader_sleeps = each->writer_sleeps = 2;
	if (sendmsg(bell, &message, MSG_NOSIGNAL) != 8)
		fail("sendmsg");
	close(fd);
}

static void accept_offer(void)
{
	char bytes[8], control[CMSG_SPACE(sizeof(int))];
	struct iovec hello = { bytes, 8 };
	struct msghdr message = { .msg_iov = &hello, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	if (recvmsg(bell, &message, MSG_CMSG_CLOEXEC) != 8 || memcmp(bytes, "aipcshm1", 8) || !CMSG_FIRSTHDR(&message))
		fail("recvmsg");
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
	map(fd, 0);
}

int main(int count, char **arguments)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	alarm(60);
	if (count < 3)
		return 2;
	strncpy(address.sun_path, arguments[2], sizeof address.sun_path - 1);
	bell = socket(AF_UNIX, SOCK_STREAM, 0);
	if (!strcmp(arguments[1], "connect")) {
		if (connect(bell, (struct sockaddr *)&address, sizeof address))
			fail("connect");
		offer(strtoull(arguments[3], NULL, 10));
	} else {
		if (bind(bell, (struct sockaddr *)&address, sizeof address) || listen(bell, 1))
			fail("bind");
		puts("ready");
		fflush(stdout);
		int listener = bell;
		bell = accept(listener, NULL, NULL);
		close(listener);
		accept_offer();
	}
	uint64_t size;
	char *message;
	while ((message = receive(&size))) {
		for (uint64_t i = 0; i < size; i++)
			message[i] = ~message[i];
		transmit(message, size);
		free(message);
	}
	atomic_store(&out->ended, 1);
	send(bell, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (wait_for_bell())
		;
	return 0;
}
