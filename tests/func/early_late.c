/* Allocates before every constructor, in constructors, in main, in exit handlers and in destructors after
 * main, while a detached thread goes on churning; frees in each stage what the stage before allocated. */
#include "func.h"

static char* carried;

static void stage(const char* name, int number) {
  if (carried != NULL) {
    for (int i = 0; i < 1000; ++i) CHECK(carried[i] == number - 1);
    carried = realloc(carried, 3000);
    CHECK(carried != NULL && carried[999] == number - 1);
    free(carried);
  }
  carried = malloc(1000);
  CHECK(carried != NULL);
  memset(carried, number, 1000);
  void* zero = calloc(10, 10);
  CHECK(zero != NULL);
  free(zero);
  void* page = NULL;
  CHECK(posix_memalign(&page, 4096, 100) == 0);
  free(page);
  CHECK(write(1, name, strlen(name)) > 0);
}

static void before_constructors(int argc, char** argv, char** environment) {
  (void)argc, (void)argv, (void)environment;
  stage("preinit ", 1);
}
__attribute__((section(".preinit_array"), used)) static void (*preinit)(int, char**,
                                                                        char**) = before_constructors;

__attribute__((constructor(101))) static void first_constructor(void) {
  stage("first ", 2);
}
__attribute__((constructor)) static void constructor(void) {
  stage("constructor ", 3);
}

static void* churn_for_ever(void* unused) {
  for (;;) churn_once(1 << 20, 3);
  return unused;
}

static void at_exit_later(void) {
  stage("later ", 6);
  churn_once(8 << 20, 4);
}
static void at_exit(void) {
  stage("handler ", 5);
  CHECK(atexit(at_exit_later) == 0);
  sweep();
}
__attribute__((destructor)) static void destructor(void) {
  stage("destructor ", 7);
}
__attribute__((destructor(101))) static void last_destructor(void) {
  stage("last", 8);
  churn_once(8 << 20, 5);
}

int main(void) {
  stage("main ", 4);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, churn_for_ever, NULL) == 0);
  CHECK(pthread_detach(thread) == 0);
  churn_once(32 << 20, 6);
  CHECK(atexit(at_exit) == 0);
  return 0;
}
