/* Threads: a thin layer over the operating system's, and a pool that runs a loop in parallel. */
#ifndef TESSERA_BASE_THREAD_H
#define TESSERA_BASE_THREAD_H

#include <tessera/status.h>

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef pthread_mutex_t mutex;
typedef pthread_cond_t condition;
typedef pthread_once_t once;

/* Stays where it is from thread_start to thread_join. */
typedef struct thread {
    pthread_t handle;
    void *(*entry)(void *);
    void *argument;
    char name[16]; /* the kernel keeps 15 bytes and a 0 */
} thread;

#define MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define ONCE_INIT  PTHREAD_ONCE_INIT

/* Not recursive. None of these can fail where it is used as it should. */
void mutex_init(mutex *m);
void mutex_destroy(mutex *m);
void mutex_lock(mutex *m);
bool mutex_try_lock(mutex *m);
void mutex_unlock(mutex *m);

/* A wait may end without a signal: loop over what is waited for. */
void condition_init(condition *c);
void condition_destroy(condition *c);
void condition_wait(condition *c, mutex *m);
bool condition_wait_for(condition *c, mutex *m, double seconds); /* false when the time ran out */
void condition_signal(condition *c);
void condition_broadcast(condition *c);

/* Runs `function` once in the life of the process, whoever comes first; the others wait for it. */
void once_run(once *flag, void (*function)(void));

/* Starts a thread that ends when `entry` returns; each is joined exactly once. `name` (at most 15 bytes are kept) is
 * what debuggers and top show. Allocates nothing. Fails with TSR_OUT_OF_MEMORY where the system has no room for one more thread. */
tsr_status thread_start(thread *t, const char *name, void *(*entry)(void *), void *argument);
void thread_join(const thread *t);

/* The calling thread's name: what it was started with, or the program's; "" where the system does not tell. */
void thread_name(char *out, size_t capacity);

enum { THREADS_MAX = 1024 };

/* The processors that this process may use (affinity, container quota); in [1, THREADS_MAX]. */
int processor_count(void);

/* One more than the highest number of a processor of this machine, in [1, THREADS_MAX]. */
int processor_limit(void);

/* The processor that the calling thread is on, in [0, THREADS_MAX), or -1 where it is not known. */
int processor_current(void);

/* Moves the calling thread to a processor it may use whose bit is not set in `taken` (bit i % 64 of word i / 64), at once;
 * later it may run anywhere again. False, and nothing changes, where there is none. */
bool processor_change(const uint64_t taken[THREADS_MAX / 64]);

/* How many threads compute work should use: TESSERA_NUM_THREADS if it is a whole number in [1, THREADS_MAX], else
 * processor_count(). */
int cpu_count(void);

/* As cpu_count, but a malformed TESSERA_NUM_THREADS is TSR_INVALID_ARGUMENT with a sentence to show. */
tsr_status cpu_count_checked(int *count);

/* A pool of `threads` workers, the caller of thread_pool_run being one of them; at least 1, at most THREADS_MAX. Where
 * the system gives fewer threads the pool is smaller (thread_pool_size tells). NULL when out of memory. */
typedef struct thread_pool thread_pool;
thread_pool *thread_pool_create(int threads);

/* No run may be in progress. NULL is fine. */
void thread_pool_destroy(thread_pool *pool);

int thread_pool_size(const thread_pool *pool);

/* Calls task(context, i, worker) once for each i in [0, count), in no particular order, and returns when all are done;
 * what the tasks wrote is then visible to the caller. 0 <= worker < thread_pool_size, and no two tasks run at the same
 * time with the same worker, so per-worker scratch memory needs no lock.
 *
 * Safe from any thread: a second caller waits for its turn. A task may itself call thread_pool_run on its pool; that
 * loop then runs serially in the task's own worker. (Tasks of two pools must not run loops on each other's pool.) */
void thread_pool_run(thread_pool *pool, void (*task)(void *context, size_t index, int worker), void *context,
                     size_t count);

#endif
