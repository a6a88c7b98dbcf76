"""docs/textbook/index.md has each call of the books, and each call of the C programs that were written after them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
INDEX = (ROOT / "docs" / "textbook" / "index.md").read_text()
BOOKS = re.findall(
    r"\S+",
    """
fork vfork exec execl execlp execv execvp wait waitpid exit _exit getpid getppid system dup dup2 perror errno sleep usleep
pipe popen pclose mkfifo mknod open close read write lseek unlink fdopen fgets fputs fprintf scanf stat fstat
fcntl flock lockf F_SETLK F_SETLKW F_GETLK F_RDLCK F_WRLCK F_UNLCK l_whence l_start l_len
ftok IPC_CREAT IPC_EXCL IPC_PRIVATE IPC_NOWAIT IPC_STAT IPC_SET IPC_RMID ipcs ipcrm
msgget msgsnd msgrcv msgctl MSG_NOERROR MSG_EXCEPT semget semop semctl SEM_UNDO GETVAL SETVAL GETALL SETALL GETPID GETNCNT GETZCNT
shmget shmat shmdt shmctl SHM_RDONLY
sem_open sem_wait sem_trywait sem_post sem_close sem_unlink sem_getvalue sem_init sem_destroy
mq_open mq_send mq_receive mq_unlink mq_notify shm_open shm_unlink ftruncate mmap munmap msync MAP_PRIVATE MAP_ANONYMOUS
socket bind listen accept connect socketpair send recv sendto recvfrom shutdown SHUT_RD SHUT_WR SHUT_RDWR
MSG_PEEK MSG_DONTWAIT MSG_NOSIGNAL MSG_OOB gethostbyname getaddrinfo getservbyname getsockname getpeername
inet_addr inet_aton inet_ntoa htons htonl ntohs select poll setsockopt
signal sigaction SA_RESTART SA_SIGINFO sigprocmask sigemptyset sigaddset sigwait sigsuspend pause alarm kill raise sigqueue
""",
)
PLAIN = re.findall(
    r"\S+",
    """
    atoi fgets fputs fread fwrite free handle handled is main malloc memcmp memcpy printf putchar snprintf sprintf sscanf strcmp strcpy
    strcspn strerror strlen strncpy strtol toupper fprintf setvbuf if for while switch return sizeof named numbered listening connected
    WEXITSTATUS __attribute__ defined begin
    """,
)
"""Functions of C that have nothing to do with other processes, and words that look like calls."""


def mentioned(call: str) -> bool:
    return re.search(rf"`[^`]*\b{re.escape(call)}\b[^`]*`", INDEX) is not None


def test_the_books_calls() -> None:
    assert [call for call in BOOKS if not mentioned(call)] == []


def test_the_programs_calls() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "tests" / "peers" / "textbook").rglob("*.[ch]"))]
    text = re.sub(r'/\*.*?\*/|"(?:\\.|[^"])*"', "", "\n".join(sources), flags=re.DOTALL)
    own = set(re.findall(r"^(?:static )?(?:inline )?[\w ]+?\*?(\w+)\(.*\)\n\{", text, re.MULTILINE))
    calls = set(re.findall(r"\b([a-zA-Z_]\w+)\(", text)) - own - {*PLAIN}
    assert len(calls) > 50
    assert sorted(call for call in calls if not mentioned(call)) == []
