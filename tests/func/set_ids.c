/* A program with threads that come and go changes who it is, again and again, while sweeps run back to back:
 * the C library makes every thread do so by a signal of its own. Afterwards no thread may be left behind. */
#include "func.h"

#include <dirent.h>
#include <grp.h>
#include <sys/syscall.h>

static atomic_bool over;
static atomic_int short_lived;

static void* live_briefly(void* unused) {
  churn_once(1 << 16, 5);
  return unused;
}

static void* start_threads(void* unused) {
  while (!atomic_load(&over)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, live_briefly, NULL) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    atomic_fetch_add(&short_lived, 1);
  }
  return unused;
}

static void* sweep_on(void* unused) {
  while (!atomic_load(&over)) {
    churn_once(1 << 16, 7);
    sweep();
  }
  return unused;
}

static bool read_status(const char* thread, char* status, size_t size) {
  char path[300];
  snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
  FILE* file = fopen(path, "r");
  if (file == NULL) return false; /* has ended */
  size_t length = fread(status, 1, size - 1, file);
  fclose(file);
  status[length] = '\0';
  return length != 0 && strstr(status, "\nState:\tZ") == NULL && strstr(status, "\nState:\tX") == NULL;
}

/* Whether the line of the status that begins so names `id` as the effective one. */
static bool has_id(const char* status, const char* key, unsigned id) {
  const char* line = strstr(status, key);
  unsigned real, effective;
  CHECK(line != NULL && sscanf(line + strlen(key), "%u %u", &real, &effective) == 2);
  return effective == id;
}

/* The C library passes over a thread that is about to end, and such a thread may be kept from ending for a
 * while by a stop or by other work: it is left behind only if it stays. False: has ended. */
static bool check_thread(const char* thread, unsigned id) {
  char status[4096];
  for (int again = 0; again < 1000; ++again) {
    if (!read_status(thread, status, sizeof status)) return false;
    if (has_id(status, "\nUid:", id) && has_id(status, "\nGid:", id)) return true;
    usleep(10000);
  }
  dprintf(1, "thread %s was not made %u:\n%s", thread, id, status);
  CHECK(!"a thread was left behind");
  return false;
}

static int check_threads(unsigned id) {
  DIR* directory = opendir("/proc/self/task");
  CHECK(directory != NULL);
  int seen = 0;
  for (struct dirent* entry; (entry = readdir(directory)) != NULL;)
    if (entry->d_name[0] != '.' && check_thread(entry->d_name, id)) ++seen;
  closedir(directory);
  return seen;
}

int main(void) {
  if (geteuid() != 0) return skip("changing the user needs root");
  hold_some();
  churners_start(2);
  pthread_t starter, sweeper;
  CHECK(pthread_create(&starter, NULL, start_threads, NULL) == 0);
  CHECK(pthread_create(&sweeper, NULL, sweep_on, NULL) == 0);
  int least = 1000;
  for (unsigned round = 0; round < 40; ++round) {
    unsigned id = 1000 + round;
    CHECK(setresgid((gid_t)-1, id, 0) == 0);
    CHECK(setresuid((uid_t)-1, id, 0) == 0);
    int seen = check_threads(id);
    if (seen < least) least = seen;
    CHECK(setresuid((uid_t)-1, 0, 0) == 0);
    CHECK(setresgid((gid_t)-1, 0, 0) == 0);
    check_threads(0);
  }
  CHECK(setgid(65534) == 0 && setuid(65534) == 0);
  check_threads(65534);
  churn_once(8 << 20, 2);
  atomic_store(&over, true);
  CHECK(pthread_join(starter, NULL) == 0 && pthread_join(sweeper, NULL) == 0);
  churners_end();
  CHECK(least >= 5); /* main, two that churn, two more */
  dprintf(1, "at least %d threads seen, %d short-lived ones\n", least, atomic_load(&short_lived));
  return 0;
}
