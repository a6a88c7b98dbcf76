/* Signals with values, in C: `signals send PID SIGNUM FIRST COUNT`, or `signals receive SIGNUM COUNT`, which says its pid,
   and then of each signal: value, sender's pid and uid. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int send_all(pid_t pid, int signum, int first, int count)
{
    union sigval value;
    int waited = 0;

    for (int i = 0; i < count; i++) {
        memset(&value, 0, sizeof value);
        value.sival_int = first + i;
        while (sigqueue(pid, signum, value) < 0) {
            if (errno != EAGAIN) {
                perror("sigqueue");
                return 1;
            }
            waited++;
            usleep(100);
        }
    }
    printf("%d %d %d\n", (int)getpid(), (int)getuid(), waited);
    return 0;
}

static int receive_all(int signum, int count)
{
    sigset_t signals;
    siginfo_t info;

    sigemptyset(&signals);
    sigaddset(&signals, signum);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    printf("%d\n", (int)getpid());
    fflush(stdout);
    while (count-- > 0) {
        if (sigwaitinfo(&signals, &info) < 0) {
            perror("sigwaitinfo");
            return 1;
        }
        printf("%d %d %d\n", info.si_value.sival_int, (int)info.si_pid, (int)info.si_uid);
        fflush(stdout);
    }
    return 0;
}

int main(int argc, char **argv)
{
    alarm(60);
    if (argc == 6 && strcmp(argv[1], "send") == 0)
        return send_all(atoi(argv[2]), atoi(argv[3]), atoi(argv[4]), atoi(argv[5]));
    if (argc == 4 && strcmp(argv[1], "receive") == 0)
        return receive_all(atoi(argv[2]), atoi(argv[3]));
    return 2;
}
