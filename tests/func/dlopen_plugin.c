/* Allocates when it is loaded and when it is unloaded, and has thread-local storage of its own. */
#include <stdlib.h>
#include <string.h>

static void* from_constructor;
static __thread char room[20000];
static __thread void* object;

__attribute__((constructor)) static void load(void) {
  from_constructor = malloc(5000);
  memset(from_constructor, 1, 5000);
  free(malloc(100));
}

__attribute__((destructor)) static void unload(void) {
  free(from_constructor);
  void* p = malloc(300);
  memset(p, 2, 300);
  free(p);
}

int plugin_work(int number);
int plugin_work(int number) {
  memset(room, number, sizeof room);
  free(object);
  object = malloc(700);
  memset(object, number, 700);
  int sum = room[19999] + ((char*)object)[699];
  free(object);
  object = NULL;
  return sum;
}
