/* p50 in µs of a 64-byte round trip between two processes that block on a Unix stream socket: pingpong CORE CORE */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 20000

static double samples[ROUNDS];

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec * 1e-3;
}

static void pin(const char *core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(atoi(core), &set);
	sched_setaffinity(0, sizeof set, &set);
}

static int compare(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

int main(int count, char **arguments)
{
	char bytes[64] = { 0 };
	int sockets[2];
	if (count < 3 || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return 1;
	if (!fork()) {
		close(sockets[0]);
		pin(arguments[2]);
		while (read(sockets[1], bytes, sizeof bytes) == sizeof bytes)
			if (write(sockets[1], bytes, sizeof bytes) != sizeof bytes)
				return 1;
		return 0;
	}
	close(sockets[1]);
	pin(arguments[1]);
	for (int round = 0; round < ROUNDS; round++) {
		double start = now();
		if (write(sockets[0], bytes, sizeof bytes) != sizeof bytes || read(sockets[0], bytes, sizeof bytes) != sizeof bytes)
			return 1;
		samples[round] = now() - start;
	}
	qsort(samples, ROUNDS, sizeof *samples, compare);
	printf("%f\n", samples[ROUNDS / 2]);
	return 0;
}
