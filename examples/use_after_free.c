/* A small message server with a real use-after-free, and an attacker who knows it.
 *
 * Sessions live on the heap. Closing one frees it, but a second table that remembers "the session to tell
 * about maintenance" keeps pointing at it: the bug. The attacker then sends a message of the same size, whose
 * bytes the server stores on the heap. Where free memory is handed out again at once, the message lands on
 * the dead session, and the attacker's bytes are read as the session's rights.
 *
 * Exit status: 0 the attack failed, 1 it succeeded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kGuest = 1, kAdministrator = 0x41444d4e };

struct session {
  unsigned role;
  char name[60];
};

static struct session* logged_in[8];
static struct session* maintenance_contact; /* not told when its session closes */

static struct session* open_session(int slot, const char* name) {
  struct session* session = malloc(sizeof *session);
  if (session == NULL) abort();
  session->role = kGuest;
  snprintf(session->name, sizeof session->name, "%s", name);
  logged_in[slot] = session;
  return session;
}

static void close_session(int slot) {
  free(logged_in[slot]);
  logged_in[slot] = NULL;
  /* The bug: maintenance_contact may still point to it. */
}

/* Keeps a copy of what the client sent. The length and every byte are the client's choice. */
static void* store_message(const void* bytes, size_t size) {
  void* copy = malloc(size);
  if (copy == NULL) abort();
  return memcpy(copy, bytes, size);
}

int main(void) {
  open_session(0, "alice");
  maintenance_contact = open_session(1, "mallory");
  printf("mallory logs in with role %#x (guest)\n", maintenance_contact->role);

  close_session(1);
  printf("mallory logs out; the maintenance table still points to the freed session\n");

  struct session forged = {.role = kAdministrator, .name = "mallory"};
  unsigned long messages = 0;
  while (messages < 1000000 && maintenance_contact->role != kAdministrator) {
    void* message = store_message(&forged, sizeof forged);
    ++messages;
    /* Most are dropped at once, as a server does; one in sixteen is kept. */
    if (messages % 16 != 0 && message != (void*)maintenance_contact) free(message);
  }
  printf("mallory sent %lu message%s of %zu bytes, each a forged session\n", messages,
         messages == 1 ? "" : "s", sizeof forged);
  printf("the stale session now says role %#x\n", maintenance_contact->role);
  if (maintenance_contact->role == kAdministrator) {
    printf("ATTACK SUCCEEDED: mallory is administrator\n");
    return 1;
  }
  printf("attack failed: no message was ever placed where the freed session is\n");
  return 0;
}
