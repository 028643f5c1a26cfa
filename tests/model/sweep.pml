/*
 * The sweep beside running threads, as a model for spin. docs/concurrency.md says what it stands for and what
 * it leaves out; run_model.py checks it, plants each bug (BUG_...) and asks whether it is found.
 *
 * One or two chunks, two threads of the program, one sweeping thread, one helper that may die. A word holds
 * nothing (0) or points to chunk 0 or 1 (1 or 2). Memory is four words on three pages:
 *
 *   word  page   what it is
 *   0     0      a word of a live object in the heap           armed
 *   1     1      memory that the program mapped, large         armed; mremap may put another page there
 *   2     2      a small mapping, a shared one, or a new one   never armed
 *   3     0      the content of chunk 0                        read with page 0, except while painted or free
 *
 * A step is one of: an instruction of a thread, a store that leaves a processor's buffer, what a system call
 * does to one page or one processor, a word or a thread's registers that the sweep reads.
 *
 * All of it at once has too many states, so the runs take parts of it:
 *   PLACES      one chunk, all pages, no content; otherwise two chunks, page 0 and content
 *   PROTECT     page 1 may be inaccessible for a time
 *   NO_FORK     nobody forks
 *   BUFFERS=n   threads whose stores wait in a store buffer: 0, 1 or 2
 *   REACH=bits  no check: asks whether a chunk with this past is ever released
 */

#if defined(BUG_PAINT_AFTER_READ) || defined(BUG_BATCH_SEALED_LATE)
#define PAINTS_LATE
#endif

#define NOTHING 0
#define POINTER(chunk) (1 + (chunk))
#define CHUNK(word) ((word) - 1)
#define NOWHERE 4

/* The way of a chunk. Held is painted, for the next sweep. */
#define LIVE 0
#define BATCHED 1
#define PAINTED 2
#define FREE 3
byte state[2];

/* Where words are. */
byte memory[4];
#define CONTENT 3
byte reg[2];
byte stack[2];
byte store_at[2] = NOWHERE; /* the store that waits in the buffer of the thread's processor */
byte store_word[2];

/* What the system knows of a page. */
#define UNTRACKED 0 /* never armed; or mapped anew, or moved, since */
#define CLEAN 1     /* armed, not written since */
#define WRITTEN 2   /* written since it was armed, and writable until it is armed again */
byte track[3];
/* Bit `page`: the thread's processor still translates as before the arming, so its stores are not noticed. */
byte stale[2];

bool stopped[2];
bool gone[2]; /* the child of a fork has one thread */
bool closed;  /* page 1 is inaccessible */
bool forked;  /* the sweep under way is the parent's */
bool lost;    /* the helper died, its threads run, the sweeping thread does not know */

/* What the sweeping thread knows. */
bool hit[2];
bool collected[2];
bool unread;     /* page 1 could not be read when its turn came */
bool was_free;   /* chunk 0 was free when the sweep began; used by a planted bug only */

/* For the properties. These three are false for ever: an assertion that fails prints what was broken. */
bool released_only_if_unreachable;
bool released_only_if_painted_in_time;
bool released_if_nothing_pointed_to_it;
#define CHECK(broken, property) if :: broken -> assert(property) :: else fi
bool sweeping;        /* between painting and release */
bool late[2];         /* freed after the painting of the sweep under way */
bool unreferenced[2]; /* no word anywhere pointed to it when it was painted */
#ifdef REACH
byte past[2]; /* bits: 1 was held, 2 freed during a sweep, 4 a sweep failed, 8 was released, 16 in
                 the child of a fork, 32 was held by the content of a chunk alone */
#define REMEMBER(chunk, bit) past[chunk] = past[chunk] | bit
#else
#define REMEMBER(chunk, bit)
#endif

#define RUNS(t) (!stopped[t] && !gone[t])
#define SEES(t, at) (store_at[t] == (at) -> store_word[t] : memory[at])

#define THREAD_HAS(t, word) (reg[t] == (word) || stack[t] == (word) || store_word[t] == (word))
#define DIRECT(word) \
  (THREAD_HAS(0, word) || THREAD_HAS(1, word) || memory[0] == (word) || memory[1] == (word) || \
   memory[2] == (word))
/* A thread could load it, from where it looks without help or through the content of chunk 0. */
#define LOADABLE(chunk) \
  (DIRECT(POINTER(chunk)) || (DIRECT(POINTER(0)) && memory[CONTENT] == POINTER(chunk)))
#define ANYWHERE(chunk) (DIRECT(POINTER(chunk)) || memory[CONTENT] == POINTER(chunk))

/* ---- the machine ---- */

inline drain(t) {
  if
  :: store_at[t] != NOWHERE ->
    memory[store_at[t]] = store_word[t];
    store_at[t] = NOWHERE;
    store_word[t] = NOTHING
  :: else
  fi
}

/* What a store does to the page's tracking: the first one after the arming traps, and is noted. */
inline touch(t, page) {
  if
#ifdef BUG_FORK_KEEPS_TRACKING
  :: gone[1] /* what is asked is the parent's */
#endif
  :: track[page] == CLEAN && !(stale[t] & (1 << (page))) -> track[page] = WRITTEN
  :: else
  fi
}

/* ---- a thread of the program ---- */

#define ME _pid
#define HAS_STACK (ME == 0) /* the other thread has but its register: half as many states */
#define STORES (RUNS(ME) && store_at[ME] == NOWHERE)

inline store(page, at, word) {
  touch(ME, page);
  if
  :: ME < BUFFERS ->
    store_at[ME] = at;
    store_word[ME] = word
  :: else -> memory[at] = word
  fi
}

/* malloc of memory that a sweep has released. */
inline take(chunk) {
  CHECK(LOADABLE(chunk), released_only_if_unreachable);
  touch(ME, 0);
#ifndef BUG_NOT_CLEANSED
  if :: chunk == 0 -> memory[CONTENT] = NOTHING :: else fi;
#endif
  reg[ME] = POINTER(chunk);
  state[chunk] = LIVE
}

active [2] proctype thread() {
  if
#ifdef PLACES
  :: d_step { ME == 0 -> reg[0] = POINTER(0) }
#else
  :: d_step { ME == 0 -> reg[0] = POINTER(0); stack[0] = POINTER(1) }
#endif
  :: ME == 1
  fi;
  do
  /* Steps that change nothing are left out. */
  :: d_step { RUNS(ME) && reg[ME] != SEES(ME, 0) -> reg[ME] = SEES(ME, 0) }
  :: d_step { STORES -> store(0, 0, reg[ME]) }
#ifdef PLACES
  :: d_step { RUNS(ME) && !closed && reg[ME] != SEES(ME, 1) -> reg[ME] = SEES(ME, 1) }
  :: d_step { RUNS(ME) && reg[ME] != SEES(ME, 2) -> reg[ME] = SEES(ME, 2) }
  :: d_step { STORES && !closed -> store(1, 1, reg[ME]) }
  :: d_step { STORES -> store(2, 2, reg[ME]) }
#else
  /* Through a pointer, dangling or not. */
  :: d_step {
    RUNS(ME) && (stack[ME] == POINTER(0) || reg[ME] == POINTER(0)) && reg[ME] != SEES(ME, CONTENT) -> reg[ME] = SEES(ME, CONTENT)
    }
  :: d_step { STORES && stack[ME] == POINTER(0) -> store(0, CONTENT, reg[ME]) }
#endif
  :: d_step { HAS_STACK && RUNS(ME) && stack[ME] != reg[ME] -> stack[ME] = reg[ME] }
  :: d_step { HAS_STACK && RUNS(ME) && stack[ME] != reg[ME] -> reg[ME] = stack[ME] }
  :: d_step { RUNS(ME) && reg[ME] != NOTHING -> reg[ME] = NOTHING }
  /* free: claim, zero, append. The append is a release: older stores are visible before it. */
  :: d_step {
    RUNS(ME) && reg[ME] != NOTHING && state[CHUNK(reg[ME])] == LIVE ->
      drain(ME);
      touch(ME, 0);
      if :: reg[ME] == POINTER(0) -> memory[CONTENT] = NOTHING :: else fi;
      state[CHUNK(reg[ME])] = BATCHED;
      late[CHUNK(reg[ME])] = sweeping;
#ifdef REACH
      if :: sweeping -> REMEMBER(CHUNK(reg[ME]), 2) :: else fi
#endif
    }
  :: d_step { RUNS(ME) && state[0] == FREE -> take(0) }
#ifndef PLACES
  :: d_step { RUNS(ME) && state[1] == FREE -> take(1) }
#endif
  :: d_step { store_at[ME] != NOWHERE -> drain(ME) }
#ifdef PLACES
  /* mremap of page 2 onto page 1: the word moves from a page to be read later to one that was read. */
  :: d_step {
    ME == 1 && RUNS(ME) && !closed ->
      drain(0);
      drain(1);
      memory[1] = memory[2];
      memory[2] = NOTHING;
#ifdef BUG_TRACKED_BY_ADDRESS
      if :: track[1] != UNTRACKED -> track[1] = CLEAN :: else fi; /* "this address was armed" */
#else
      track[1] = UNTRACKED
#endif
    }
#endif
#ifdef PROTECT
  :: d_step { ME == 1 && RUNS(0) && RUNS(1) && !closed -> drain(0); drain(1); closed = true }
  :: d_step { ME == 1 && RUNS(ME) && closed -> closed = false }
#endif
#ifndef NO_FORK
  :: d_step {
    ME == 0 && RUNS(ME) && !gone[1] ->
      drain(0);
      drain(1);
      gone[1] = true;
      reg[1] = NOTHING;
      stack[1] = NOTHING;
      stopped[1] = false;
#ifndef BUG_FORK_KEEPS_TRACKING
      track[0] = UNTRACKED;
      track[1] = UNTRACKED;
      forked = true
#endif
    }
#endif
  od
}

/* ---- the sweeping thread ---- */

inline note(word) {
  if
  :: (word) != NOTHING && state[CHUNK(word)] == PAINTED -> hit[CHUNK(word)] = true
  :: else
  fi
}

inline paint_chunk(chunk) {
  if :: state[chunk] == BATCHED -> state[chunk] = PAINTED :: else fi;
  unreferenced[chunk] = state[chunk] == PAINTED && !ANYWHERE(chunk)
}

/* One holding of the quarantine's lock. */
inline paint() {
  paint_chunk(0);
  paint_chunk(1)
}

/* What is painted is skipped: if it turns out to be hit it is read in the stop. What is free cannot be read. */
inline read_content() {
  if
#ifdef BUG_FREE_BITS_EARLY
  :: was_free
  :: !was_free && (state[0] == LIVE || state[0] == BATCHED) -> note(memory[CONTENT])
#else
  :: state[0] == LIVE || state[0] == BATCHED -> note(memory[CONTENT])
#endif
  :: else
  fi
}

/* Reading cannot fail beyond the page: what cannot be read is skipped, and stays to be read in the stop. */
inline read_page_1() {
#ifdef PROTECT
  if
#ifndef BUG_SKIPPED_IS_READ
  :: closed -> unread = true
#else
  :: closed
#endif
  :: else -> note(memory[1]); unread = false
  fi
#else
  note(memory[1])
#endif
}

/* Chunk 0 alone can have something inside: who has the other has nothing to gain from storing there. */
inline expand() {
#if defined(PLACES) || defined(BUG_CONTENT_NOT_READ)
  skip
#else
#ifdef REACH
  if :: hit[0] && memory[CONTENT] == POINTER(1) && !hit[1] -> REMEMBER(1, 32) :: else fi;
#endif
  if :: hit[0] -> note(memory[CONTENT]) :: else fi
#endif
}

inline read_page_0() {
  d_step { note(memory[0]) }
#ifndef PLACES
  d_step { read_content() }
#endif
}

/* The system call that arms: first the page's entry changes, ... */
inline protect(page) {
  d_step {
    if
    :: track[page] != CLEAN ->
      track[page] = CLEAN;
#ifdef BUG_NO_FLUSH
      stale[0] = stale[0] | (1 << (page));
      stale[1] = stale[1] | (1 << (page))
#else
      if :: !gone[0] -> stale[0] = stale[0] | (1 << (page)) :: else fi;
      if :: !gone[1] -> stale[1] = stale[1] | (1 << (page)) :: else fi
#endif
    :: else
    fi
  }
}

/* ... then each processor is interrupted: its buffer drains, its old translations go. */
inline flush_processor(t) {
  d_step {
#ifndef BUG_NO_FENCE
    drain(t);
#endif
    stale[t] = 0
  }
}

inline flush() {
#ifdef BUG_NO_FLUSH
  skip
#else
  flush_processor(0);
  flush_processor(1)
#endif
}

/* The first round takes one mapping after the other. */
inline arm_and_read_0() {
#ifdef BUG_READ_BEFORE_ARM
  read_page_0();
  protect(0);
  flush()
#else
  protect(0);
  flush();
  read_page_0()
#endif
}

inline arm_and_read_1() {
#ifdef BUG_READ_BEFORE_ARM
  d_step { read_page_1() };
  protect(1);
  flush()
#else
  protect(1);
  flush();
  d_step { read_page_1() }
#endif
}

inline read_collected() {
  if :: collected[0] -> read_page_0() :: else fi;
#ifdef PLACES
  if :: collected[1] -> d_step { read_page_1() } :: else fi;
#endif
  skip
}

inline arm_collected() {
#ifdef BUG_ARMS_UNCOLLECTED
  if :: track[0] == WRITTEN -> protect(0) :: else fi;
  if :: track[1] == WRITTEN -> protect(1) :: else fi;
#else
  if :: collected[0] -> protect(0) :: else fi;
#ifdef PLACES
  if :: collected[1] -> protect(1) :: else fi;
#endif
#endif
  flush()
}

inline further_round() {
  d_step {
    collected[0] = track[0] == WRITTEN;
    collected[1] = track[1] == WRITTEN
  };
#ifdef BUG_ROUND_ORDER
  read_collected();
  arm_collected();
#else
  arm_collected();
  read_collected();
#endif
  d_step {
    collected[0] = false;
    collected[1] = false
  }
}

inline stop(t) {
  d_step {
    if :: !gone[t] -> stopped[t] = true; drain(t) :: else fi
  }
}

#ifdef PROTECT
inline stop_where_open(t) {
  d_step { !closed -> stopped[t] = true; drain(t) }
}
#endif

inline read_thread(t) {
#ifndef BUG_REGISTERS_NOT_READ
  note(reg[t]);
#endif
#ifndef BUG_STACKS_NOT_READ
  note(stack[t]);
#endif
  skip
}

#ifdef BUG_WRITTEN_NOT_REREAD
#define WRITTEN_PAGE(page) false
#else
#define WRITTEN_PAGE(page) (track[page] == WRITTEN)
#endif
#ifdef BUG_UNARMED_NOT_READ
#define UNARMED_PAGE(page) false
#else
#define UNARMED_PAGE(page) (track[page] == UNTRACKED)
#endif

inline read_what_is_left() {
  if :: WRITTEN_PAGE(0) || UNARMED_PAGE(0) -> read_page_0() :: else fi;
#ifdef PLACES
  if :: WRITTEN_PAGE(1) || UNARMED_PAGE(1) || unread -> d_step { read_page_1() } :: else fi;
  if :: UNARMED_PAGE(2) -> d_step { note(memory[2]) } :: else fi
#endif
}

inline release_chunk(chunk) {
  if
#ifdef BUG_WAITING_RELEASED
  :: (state[chunk] == PAINTED || state[chunk] == BATCHED) && !hit[chunk] ->
#else
  :: state[chunk] == PAINTED && !hit[chunk] ->
#endif
#ifdef REACH
    CHECK((past[chunk] & REACH) == REACH, false);
    past[chunk] = 8 | (past[chunk] & 16);
#else
#ifndef PAINTS_LATE /* must be found by what it leads to */
    CHECK(late[chunk], released_only_if_painted_in_time);
#endif
    CHECK(LOADABLE(chunk), released_only_if_unreachable);
#endif
    state[chunk] = FREE
  :: state[chunk] == PAINTED && hit[chunk] ->
#ifndef PAINTS_LATE
    CHECK(unreferenced[chunk], released_if_nothing_pointed_to_it);
#endif
    REMEMBER(chunk, 1)
  :: else
  fi
}

inline release() {
  release_chunk(0);
  release_chunk(1);
  sweeping = false;
  hit[0] = false;
  hit[1] = false
}

inline give_up() {
  sweeping = false;
#ifndef BUG_HITS_KEPT
  hit[0] = false;
  hit[1] = false;
#endif
  stopped[0] = false;
  stopped[1] = false;
  lost = false;
  unread = false;
  REMEMBER(0, 4);
  REMEMBER(1, 4)
}

active proctype sweeper() {
again:
  {
    /* 1: seal and paint. */
    d_step {
#ifndef BUG_PAINT_AFTER_READ
      paint();
#endif
      late[0] = false;
      late[1] = false;
#ifdef BUG_FREE_BITS_EARLY
      was_free = state[0] == FREE;
#endif
      unread = false;
      sweeping = true
    }

    /* 2: arm and read, mapping by mapping. */
    arm_and_read_0();
#ifdef PLACES
    arm_and_read_1();
#endif

    /* 3: further rounds, as many as there may be. */
    do
    :: further_round()
    :: break
    od;

    /* 4: stop. A thread may not answer in time. What is inaccessible now is not promised to be seen. */
#ifdef PROTECT
    stop_where_open(0);
#else
    stop(0);
#endif
    if
    :: d_step { true -> give_up() }; goto again
    :: true
    fi;
#if defined(BUG_TIME_OUT_IGNORED)
    if
    :: stop(1)
    :: true
    fi;
#elif !defined(BUG_ONE_RUNS_ON)
    stop(1);
#endif
#ifdef PAINTS_LATE
    d_step { paint() }
#endif

    /* 5: read what is left. */
    d_step { read_thread(0) };
    d_step { read_thread(1) };
    read_what_is_left();
    d_step { expand() };

    /* 6: resume. Did they stay stopped? */
    if
#ifndef BUG_LOST_NOT_ASKED
    :: d_step { lost -> give_up() }; goto again
    :: d_step { !lost -> stopped[0] = false; stopped[1] = false }
#else
    :: d_step { stopped[0] = false; stopped[1] = false; lost = false }
#endif
    fi;

    /* 7: release. */
    d_step { release() };
    goto again
  } unless {
    /* In the child of a fork the tracking is gone, and so is the sweep. */
    d_step {
      forked ->
        forked = false;
        stale[0] = 0;
        stale[1] = 0;
        collected[0] = false;
        collected[1] = false;
        give_up();
        REMEMBER(0, 16);
        REMEMBER(1, 16)
    };
    goto again
  }
}

/* The ptrace helper may be killed at any time; then the threads it held run. */
active proctype helper() {
  do
  :: d_step {
    !lost && stopped[0] && (stopped[1] || gone[1]) ->
      lost = true;
      stopped[0] = false;
      stopped[1] = false
    }
  od
}
