/* One thread in each system call that blocks, while another sweeps: what do the calls return?
 *
 *   blocked_calls [deaf]   prints "name: result" for each; "deaf": with every signal blocked in these threads
 *
 * A result is "as without" when the call ends as it would had nobody stopped the thread: calls with a time
 * limit after the whole of it, the others only when they are released. Else it is "EINTR", "short" (of a
 * write), "early", or what went wrong. blocked_calls_test.py judges the results. */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include "func.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

enum { kSweeps = 8, kBigWrite = 1 << 20 };

static long limit_ms = 600; /* of the calls with a time limit */

struct call {
  const char* name;
  bool (*run)(struct call*);     /* true: the call returned what it should when it ends */
  void (*release)(struct call*); /* null: ends after limit_ms */
  void (*prepare)(struct call*);
  int fd[2];
  uint32_t word;
  sem_t semaphore;
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  struct {
    void* ring;
    struct io_uring_sqe* entries;
    struct io_uring_params setup;
  } uring;
  pthread_t thread;
  pid_t child;
  atomic_int tid;
  atomic_bool released, done, absent, swept;
  char result[64];
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static struct timespec limit(void) {
  return (struct timespec){limit_ms / 1000, limit_ms % 1000 * 1000000};
}
static struct timespec limit_from(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_sec += limit_ms / 1000;
  t.tv_nsec += limit_ms % 1000 * 1000000;
  if (t.tv_nsec >= 1000000000) t.tv_nsec -= 1000000000, ++t.tv_sec;
  return t;
}

/* ---- what the calls wait for */

static void with_pipe(struct call* c) {
  CHECK(pipe(c->fd) == 0);
}
static void with_sockets(struct call* c) {
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, c->fd) == 0);
}
static void write_byte(struct call* c) {
  CHECK(write(c->fd[1], "x", 1) == 1);
}
static void with_receive_limit(struct call* c) {
  with_sockets(c);
  struct timeval t = {limit_ms / 1000, limit_ms % 1000 * 1000};
  CHECK(setsockopt(c->fd[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t) == 0);
}
static void with_epoll(struct call* c) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  c->fd[0] = epoll_create1(0);
  c->fd[1] = ends[1];
  struct epoll_event event = {.events = EPOLLIN};
  CHECK(c->fd[0] >= 0 && epoll_ctl(c->fd[0], EPOLL_CTL_ADD, ends[0], &event) == 0);
}

/* ---- calls with a time limit */

static bool run_poll(struct call* c) {
  struct pollfd p = {.fd = c->fd[0], .events = POLLIN};
  return poll(&p, 1, (int)limit_ms) == 0;
}
static bool run_ppoll(struct call* c) {
  struct pollfd p = {.fd = c->fd[0], .events = POLLIN};
  struct timespec t = limit();
  return ppoll(&p, 1, &t, NULL) == 0;
}
static bool run_select(struct call* c) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(c->fd[0], &set);
  struct timeval t = {limit_ms / 1000, limit_ms % 1000 * 1000};
  return select(c->fd[0] + 1, &set, NULL, NULL, &t) == 0;
}
static bool run_pselect(struct call* c) {
  fd_set set;
  FD_ZERO(&set);
  FD_SET(c->fd[0], &set);
  struct timespec t = limit();
  return pselect(c->fd[0] + 1, &set, NULL, NULL, &t, NULL) == 0;
}
static bool run_epoll_wait(struct call* c) {
  struct epoll_event event;
  return epoll_wait(c->fd[0], &event, 1, (int)limit_ms) == 0;
}
static bool run_nanosleep(struct call* c) {
  (void)c;
  struct timespec t = limit();
  return nanosleep(&t, NULL) == 0;
}
static bool run_clock_nanosleep(struct call* c) {
  (void)c;
  struct timespec t = limit();
  return (errno = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL)) == 0;
}
static bool run_clock_nanosleep_until(struct call* c) {
  (void)c;
  struct timespec t = limit_from(CLOCK_MONOTONIC);
  return (errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) == 0;
}
static bool run_usleep(struct call* c) {
  (void)c;
  return usleep((useconds_t)limit_ms * 1000) == 0;
}
static bool run_futex(struct call* c) {
  struct timespec t = limit();
  return syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, &t) == -1 && errno == ETIMEDOUT;
}
static bool run_cond_timedwait(struct call* c) {
  struct timespec t = limit_from(CLOCK_REALTIME);
  pthread_mutex_lock(&c->mutex);
  errno = pthread_cond_timedwait(&c->condition, &c->mutex, &t);
  pthread_mutex_unlock(&c->mutex);
  return errno == ETIMEDOUT;
}
static bool run_mutex_timedlock(struct call* c) {
  struct timespec t = limit_from(CLOCK_REALTIME);
  return (errno = pthread_mutex_timedlock(&c->mutex, &t)) == ETIMEDOUT;
}
static bool run_sem_timedwait(struct call* c) {
  struct timespec t = limit_from(CLOCK_REALTIME);
  return sem_timedwait(&c->semaphore, &t) == -1 && errno == ETIMEDOUT;
}
static bool run_sigtimedwait(struct call* c) {
  (void)c;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  struct timespec t = limit();
  return sigtimedwait(&set, NULL, &t) == -1 && errno == EAGAIN;
}
static bool run_recv_limit(struct call* c) {
  char byte;
  return recv(c->fd[0], &byte, 1, 0) == -1 && errno == EAGAIN;
}
static bool run_timerfd(struct call* c) {
  uint64_t times = 0;
  return read(c->fd[0], &times, sizeof times) == sizeof times && times == 1;
}
static void with_timer(struct call* c) {
  c->fd[0] = timerfd_create(CLOCK_MONOTONIC, 0);
  CHECK(c->fd[0] >= 0);
}
static void hold_mutex(struct call* c) {
  CHECK(pthread_mutex_lock(&c->mutex) == 0);
}

/* ---- calls that end when they are released */

static bool run_read(struct call* c) {
  char byte;
  return read(c->fd[0], &byte, 1) == 1;
}
static bool run_eventfd(struct call* c) {
  uint64_t value;
  return read(c->fd[0], &value, sizeof value) == sizeof value;
}
static void with_eventfd(struct call* c) {
  c->fd[0] = c->fd[1] = eventfd(0, 0);
  CHECK(c->fd[0] >= 0);
}
static void write_event(struct call* c) {
  uint64_t one = 1;
  CHECK(write(c->fd[1], &one, sizeof one) == sizeof one);
}
static bool run_write(struct call* c) {
  char* bytes = mmap(NULL, kBigWrite, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ssize_t written = write(c->fd[1], bytes, kBigWrite);
  int error = errno;
  munmap(bytes, kBigWrite);
  if (written > 0 && written < kBigWrite) snprintf(c->result, sizeof c->result, "short");
  errno = error;
  return written == kBigWrite;
}
static void read_all(struct call* c) {
  char bytes[65536];
  CHECK(fcntl(c->fd[0], F_SETFL, O_NONBLOCK) == 0);
  while (!atomic_load(&c->done)) {
    if (read(c->fd[0], bytes, sizeof bytes) < 0) usleep(1000);
  }
}
static bool run_recv(struct call* c) {
  char byte;
  return recv(c->fd[0], &byte, 1, 0) == 1;
}
static bool run_epoll_wait_on(struct call* c) {
  struct epoll_event event;
  return epoll_wait(c->fd[0], &event, 1, -1) == 1;
}
static bool run_poll_on(struct call* c) {
  struct pollfd p = {.fd = c->fd[0], .events = POLLIN};
  return poll(&p, 1, -1) == 1;
}
static struct sockaddr_un listen_address(int fd, socklen_t* length) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  *length = sizeof address;
  CHECK(getsockname(fd, (struct sockaddr*)&address, length) == 0);
  return address;
}
static void with_listener(struct call* c) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  c->fd[0] = socket(AF_UNIX, SOCK_STREAM, 0);
  c->fd[1] = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(c->fd[0], (struct sockaddr*)&address, sizeof(sa_family_t)) == 0); /* a name of the kernel's */
  CHECK(listen(c->fd[0], 0) == 0);
}
static bool run_accept(struct call* c) {
  return accept(c->fd[0], NULL, NULL) >= 0;
}
static bool run_connect(struct call* c) {
  socklen_t length;
  struct sockaddr_un address = listen_address(c->fd[0], &length);
  return connect(c->fd[1], (struct sockaddr*)&address, length) == 0;
}
static void connect_to_it(struct call* c) {
  CHECK(run_connect(c));
}
static void with_full_listener(struct call* c) {
  with_listener(c);
  socklen_t length;
  struct sockaddr_un address = listen_address(c->fd[0], &length);
  int first = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(connect(first, (struct sockaddr*)&address, length) == 0);
}
static void accept_twice(struct call* c) {
  CHECK(accept(c->fd[0], NULL, NULL) >= 0 && accept(c->fd[0], NULL, NULL) >= 0);
}
static void with_file(struct call* c) {
  char path[64];
  c->fd[0] = memfd_create("locked", 0);
  snprintf(path, sizeof path, "/proc/self/fd/%d", c->fd[0]);
  c->fd[1] = open(path, O_RDWR);
  CHECK(c->fd[0] >= 0 && c->fd[1] >= 0);
}
static void with_locked_file(struct call* c) {
  with_file(c);
  CHECK(flock(c->fd[0], LOCK_EX) == 0);
}
static bool run_flock(struct call* c) {
  return flock(c->fd[1], LOCK_EX) == 0;
}
static void unlock_file(struct call* c) {
  CHECK(flock(c->fd[0], LOCK_UN) == 0);
}
static void with_locked_range(struct call* c) {
  with_file(c);
  struct flock lock = {.l_type = F_WRLCK};
  CHECK(fcntl(c->fd[0], F_OFD_SETLK, &lock) == 0);
}
static bool run_fcntl_lock(struct call* c) {
  struct flock lock = {.l_type = F_WRLCK};
  return fcntl(c->fd[1], F_OFD_SETLKW, &lock) == 0;
}
static void unlock_range(struct call* c) {
  struct flock lock = {.l_type = F_UNLCK};
  CHECK(fcntl(c->fd[0], F_OFD_SETLK, &lock) == 0);
}
static void with_child(struct call* c) {
  c->child = fork();
  CHECK(c->child >= 0);
  if (c->child == 0) {
    alarm(60);
    for (;;) pause();
  }
}
static void end_child(struct call* c) {
  CHECK(kill(c->child, SIGKILL) == 0);
}
static bool run_waitpid(struct call* c) {
  int status;
  return waitpid(c->child, &status, 0) == c->child;
}
static bool run_sem_wait(struct call* c) {
  return sem_wait(&c->semaphore) == 0;
}
static void post(struct call* c) {
  CHECK(sem_post(&c->semaphore) == 0);
}
static bool run_mutex_lock(struct call* c) {
  return (errno = pthread_mutex_lock(&c->mutex)) == 0;
}
static void unlock_mutex(struct call* c) {
  CHECK(pthread_mutex_unlock(&c->mutex) == 0);
}
static bool run_cond_wait(struct call* c) {
  pthread_mutex_lock(&c->mutex);
  errno = pthread_cond_wait(&c->condition, &c->mutex);
  pthread_mutex_unlock(&c->mutex);
  return errno == 0;
}
static void signal_condition(struct call* c) {
  pthread_mutex_lock(&c->mutex);
  pthread_cond_signal(&c->condition);
  pthread_mutex_unlock(&c->mutex);
}
static bool run_futex_on(struct call* c) {
  return syscall(SYS_futex, &c->word, FUTEX_WAIT_PRIVATE, 0, NULL) == 0;
}
static void wake(struct call* c) {
  c->word = 1;
  syscall(SYS_futex, &c->word, FUTEX_WAKE_PRIVATE, 1);
}
static void on_signal(int number) {
  (void)number;
}
static bool run_pause(struct call* c) {
  return pause() == -1 && errno == EINTR && atomic_load(&c->released);
}
static bool run_sigsuspend(struct call* c) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  sigdelset(&mask, SIGUSR1);
  return sigsuspend(&mask) == -1 && errno == EINTR && atomic_load(&c->released);
}
static void send_usr1(struct call* c) {
  CHECK(pthread_kill(c->thread, SIGUSR1) == 0);
}
static bool run_sigwait(struct call* c) {
  (void)c;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  int number = 0;
  errno = sigwait(&set, &number);
  return errno == 0 && number == SIGUSR2;
}
static void send_usr2(struct call* c) {
  CHECK(pthread_kill(c->thread, SIGUSR2) == 0);
}
static void with_queue(struct call* c) {
  c->fd[0] = msgget(IPC_PRIVATE, 0600);
  atomic_store(&c->absent, c->fd[0] < 0);
}
static bool run_msgrcv(struct call* c) {
  struct {
    long type;
    char text[8];
  } message;
  return msgrcv(c->fd[0], &message, sizeof message.text, 0, 0) == 1;
}
static void send_message(struct call* c) {
  struct {
    long type;
    char text[8];
  } message = {1, "x"};
  CHECK(msgsnd(c->fd[0], &message, 1, 0) == 0);
}
static void with_semaphores(struct call* c) {
  c->fd[0] = semget(IPC_PRIVATE, 1, 0600);
  atomic_store(&c->absent, c->fd[0] < 0);
}
static bool run_semop(struct call* c) {
  struct sembuf take = {0, -1, 0};
  return semop(c->fd[0], &take, 1) == 0;
}
static void give(struct call* c) {
  struct sembuf one = {0, 1, 0};
  CHECK(semop(c->fd[0], &one, 1) == 0);
}

static void with_uring(struct call* c) {
  c->fd[0] = (int)syscall(SYS_io_uring_setup, 2, &c->uring.setup);
  if (c->fd[0] < 0) {
    atomic_store(&c->absent, true);
    return;
  }
  size_t size = c->uring.setup.sq_off.array + c->uring.setup.sq_entries * sizeof(uint32_t);
  c->uring.ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd[0], IORING_OFF_SQ_RING);
  c->uring.entries = mmap(NULL, c->uring.setup.sq_entries * sizeof(struct io_uring_sqe),
                          PROT_READ | PROT_WRITE, MAP_SHARED, c->fd[0], IORING_OFF_SQES);
  CHECK(c->uring.ring != MAP_FAILED && c->uring.entries != MAP_FAILED);
}
static bool run_uring(struct call* c) {
  return syscall(SYS_io_uring_enter, c->fd[0], 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 0;
}
static void submit_nothing(struct call* c) {
  c->uring.entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_NOP};
  char* ring = c->uring.ring;
  *(uint32_t*)(ring + c->uring.setup.sq_off.array) = 0;
  __atomic_store_n((uint32_t*)(ring + c->uring.setup.sq_off.tail), 1, __ATOMIC_RELEASE);
  CHECK(syscall(SYS_io_uring_enter, c->fd[0], 1, 0, 0, NULL, 0) == 1);
}

static struct call calls[] = {
    {"poll", run_poll, NULL, with_pipe},
    {"poll, no time limit", run_poll_on, write_byte, with_pipe},
    {"ppoll", run_ppoll, NULL, with_pipe},
    {"select", run_select, NULL, with_pipe},
    {"pselect", run_pselect, NULL, with_pipe},
    {"epoll_wait", run_epoll_wait, NULL, with_epoll},
    {"epoll_wait, no time limit", run_epoll_wait_on, write_byte, with_epoll},
    {"nanosleep", run_nanosleep, NULL, NULL},
    {"clock_nanosleep", run_clock_nanosleep, NULL, NULL},
    {"clock_nanosleep, TIMER_ABSTIME", run_clock_nanosleep_until, NULL, NULL},
    {"usleep", run_usleep, NULL, NULL},
    {"futex, timed", run_futex, NULL, NULL},
    {"futex, no time limit", run_futex_on, wake, NULL},
    {"pthread_cond_timedwait", run_cond_timedwait, NULL, NULL},
    {"pthread_cond_wait", run_cond_wait, signal_condition, NULL},
    {"pthread_mutex_timedlock", run_mutex_timedlock, NULL, hold_mutex},
    {"pthread_mutex_lock", run_mutex_lock, unlock_mutex, hold_mutex},
    {"sem_timedwait", run_sem_timedwait, NULL, NULL},
    {"sem_wait", run_sem_wait, post, NULL},
    {"sigtimedwait", run_sigtimedwait, NULL, NULL},
    {"sigwait", run_sigwait, send_usr2, NULL},
    {"pause", run_pause, send_usr1, NULL},
    {"sigsuspend", run_sigsuspend, send_usr1, NULL},
    {"msgrcv", run_msgrcv, send_message, with_queue},
    {"semop", run_semop, give, with_semaphores},
    {"recv, SO_RCVTIMEO", run_recv_limit, NULL, with_receive_limit},
    {"recv", run_recv, write_byte, with_sockets},
    {"accept", run_accept, connect_to_it, with_listener},
    {"connect", run_connect, accept_twice, with_full_listener},
    {"read of a pipe", run_read, write_byte, with_pipe},
    {"read of an eventfd", run_eventfd, write_event, with_eventfd},
    {"read of a timerfd", run_timerfd, NULL, with_timer},
    {"write to a full pipe", run_write, read_all, with_pipe},
    {"flock", run_flock, unlock_file, with_locked_file},
    {"fcntl, F_OFD_SETLKW", run_fcntl_lock, unlock_range, with_locked_range},
    {"waitpid", run_waitpid, end_child, with_child},
    {"io_uring_enter", run_uring, submit_nothing, with_uring},
};
enum { kCalls = sizeof calls / sizeof *calls };

static bool deaf;
static atomic_bool go;

static void* run_call(void* argument) {
  struct call* c = argument;
  if (deaf) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
  }
  atomic_store(&c->tid, (int)syscall(SYS_gettid));
  while (!atomic_load(&go)) sched_yield();
  if (c->run == run_timerfd) {
    struct itimerspec timer = {.it_value = limit()};
    CHECK(timerfd_settime(c->fd[0], 0, &timer, NULL) == 0);
  }
  double begin = now();
  errno = 0;
  bool good = c->run(c);
  int error = errno;
  double took = now() - begin;
  bool early = c->release != NULL ? !atomic_load(&c->released) : took < (double)limit_ms * 1e-3 - 2e-3;
  if (c->result[0] != '\0') {
  } else if (good && !early) {
    snprintf(c->result, sizeof c->result, "as without");
  } else if (error == EINTR) {
    snprintf(c->result, sizeof c->result, "EINTR");
  } else if (good) {
    snprintf(c->result, sizeof c->result, "early");
  } else {
    snprintf(c->result, sizeof c->result, "errno %d", error);
  }
  atomic_store(&c->done, true);
  return NULL;
}

/* The letter of /proc/self/task/<tid>/stat. */
static char state_of(int tid) {
  char path[64], text[256];
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 'X';
  ssize_t length = read(fd, text, sizeof text - 1);
  close(fd);
  text[length > 0 ? length : 0] = '\0';
  const char* behind_name = strrchr(text, ')');
  return behind_name != NULL ? behind_name[2] : 'X';
}

static void wait_until_blocked(void) {
  for (int i = 0; i < kCalls; ++i) {
    struct call* c = &calls[i];
    while (!atomic_load(&c->absent) && !atomic_load(&c->done) && state_of(atomic_load(&c->tid)) != 'S')
      usleep(500);
  }
  usleep(10000);
}

int main(int argc, char** argv) {
  deaf = argc > 1 && strcmp(argv[1], "deaf") == 0;
  if (getenv("BLOCKED_CALLS_LIMIT") != NULL) limit_ms = atol(getenv("BLOCKED_CALLS_LIMIT"));
  alarm(60);
  sigset_t usr2;
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  CHECK(pthread_sigmask(SIG_BLOCK, &usr2, NULL) == 0);
  struct sigaction action = {.sa_handler = on_signal};
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
  for (int i = 0; i < kCalls; ++i) {
    struct call* c = &calls[i];
    CHECK(sem_init(&c->semaphore, 0, 0) == 0);
    CHECK(pthread_mutex_init(&c->mutex, NULL) == 0 && pthread_cond_init(&c->condition, NULL) == 0);
    if (deaf && c->run == run_pause) atomic_store(&c->absent, true); /* would sleep for ever */
    if (c->prepare != NULL) c->prepare(c);
  }
  for (int i = 0; i < kCalls; ++i) {
    struct call* c = &calls[i];
    if (!atomic_load(&c->absent)) CHECK(pthread_create(&c->thread, NULL, run_call, c) == 0);
    while (!atomic_load(&c->absent) && atomic_load(&c->tid) == 0) sched_yield();
  }
  atomic_store(&go, true);
  wait_until_blocked();

  int sweeps = 0;
  bool refused = false, too_slow = false;
  for (int i = 0; malloc_revoke && i < kSweeps && !refused; ++i) {
    for (int k = 0; k < 50; ++k) free(malloc(100));
    if (malloc_revoke() == 0)
      ++sweeps;
    else
      refused = errno == EPERM;
    /* A call with a time limit that is over before the first sweep shows nothing. */
    for (int k = 0; i == 0 && k < kCalls; ++k) {
      if (calls[k].release == NULL && strcmp(calls[k].result, "as without") == 0) too_slow = true;
    }
    usleep(3000);
  }
  for (int i = 0; i < kCalls; ++i) {
    struct call* c = &calls[i];
    if (atomic_load(&c->absent)) {
      snprintf(c->result, sizeof c->result, "not here");
      continue;
    }
    atomic_store(&c->released, true);
    /* What is over already has left nobody behind but, perhaps, the child. */
    if (c->release != NULL && (!atomic_load(&c->done) || c->release == end_child)) c->release(c);
    CHECK(pthread_join(c->thread, NULL) == 0);
  }
  for (int i = 0; i < kCalls; ++i) {
    if (calls[i].prepare == with_queue) msgctl(calls[i].fd[0], IPC_RMID, NULL);
    if (calls[i].prepare == with_semaphores) semctl(calls[i].fd[0], 0, IPC_RMID);
  }
  if (refused) return skip("threads cannot be stopped in this way here");
  if (too_slow && limit_ms < 10000) {
    char text[16];
    snprintf(text, sizeof text, "%ld", limit_ms * 4);
    setenv("BLOCKED_CALLS_LIMIT", text, 1);
    execv("/proc/self/exe", argv);
  }
  for (int i = 0; i < kCalls; ++i) dprintf(1, "%s: %s\n", calls[i].name, calls[i].result);
  dprintf(1, "sweeps: %d\n", sweeps);
  return 0;
}
