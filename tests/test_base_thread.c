#include "unit.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/thread.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static void pause_ns(long ns)
{
    nanosleep(&(struct timespec){.tv_nsec = ns}, NULL);
}

/* Every index once, every worker's number in range and used by one thread at a time. */
enum { MOST = 4096 };
typedef struct visits {
    thread_pool *pool;
    atomic_int seen[MOST];
    atomic_int busy[16];
    atomic_int helped[16];
    atomic_int wrong;
    long pause;
} visits;

static void visit(void *context, size_t index, int worker)
{
    visits *v = context;
    if (worker < 0 || worker >= thread_pool_size(v->pool) || atomic_fetch_add(&v->busy[worker], 1) != 0)
        atomic_fetch_add(&v->wrong, 1);
    atomic_fetch_add(&v->seen[index], 1);
    atomic_fetch_add(&v->helped[worker & 15], 1);
    if (v->pause > 0)
        pause_ns(v->pause);
    if (worker >= 0 && worker < 16)
        atomic_fetch_sub(&v->busy[worker], 1);
}

static void count_visit(void *context, size_t index, int worker)
{
    (void)worker;
    atomic_fetch_add(&((visits *)context)->seen[index], 1);
}

static void check_visits(visits *v, size_t count, int times)
{
    assert_int_equal(atomic_load(&v->wrong), 0);
    for (size_t i = 0; i < MOST; i++)
        assert_int_equal(atomic_load(&v->seen[i]), i < count ? times : 0);
}

static void visits_every_index_once(void **state)
{
    const int sizes[] = {1, 2, 3, 8};
    const size_t counts[] = {0, 1, 2, 3, 7, 64, 1000, MOST};
    (void)state;

    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        thread_pool *pool = thread_pool_create(sizes[s]);
        assert_non_null(pool);
        assert_int_equal(thread_pool_size(pool), sizes[s]);
        for (size_t c = 0; c < COUNT_OF(counts); c++) {
            visits *v = calloc(1, sizeof *v);
            v->pool = pool;
            for (int again = 0; again < 3; again++)
                thread_pool_run(pool, visit, v, counts[c]);
            check_visits(v, counts[c], 3);
            free(v);
        }
        thread_pool_destroy(pool);
    }
}

/* Runs with every kind of gap between them: workers spinning, about to sleep, asleep. */
static void survives_any_rhythm(void **state)
{
    thread_pool *pool = thread_pool_create(3);
    visits *v = calloc(1, sizeof *v);
    (void)state;

    v->pool = pool;
    for (int i = 0; i < 600; i++) {
        thread_pool_run(pool, visit, v, 2 + (size_t)i % 5);
        if (i % 3 == 0)
            pause_ns(1000L * (i % 100));
    }
    assert_int_equal(atomic_load(&v->wrong), 0);
    assert_int_equal(atomic_load(&v->seen[0]), 600);
    assert_int_equal(atomic_load(&v->seen[1]), 600);
    assert_int_equal(atomic_load(&v->seen[5]), 120);
    free(v);
    thread_pool_destroy(pool);
}

static void shares_the_work(void **state)
{
    thread_pool *pool = thread_pool_create(4);
    visits *v = calloc(1, sizeof *v);
    int helpers = 0;
    (void)state;

    /* Alone this takes the caller 0.4 s: time enough for another to wake, even on a busy machine. */
    v->pool = pool;
    v->pause = 2000000;
    thread_pool_run(pool, visit, v, 200);
    check_visits(v, 200, 1);
    for (int i = 1; i < 4; i++)
        helpers += atomic_load(&v->helped[i]) > 0;
    assert_true(helpers >= 1);
    free(v);
    thread_pool_destroy(pool);
}

/* What tasks wrote without atomics is visible after the run (the thread sanitizer watches). */
static void square(void *context, size_t index, int worker)
{
    (void)worker;
    ((size_t *)context)[index] = index * index;
}

static void publishes_results(void **state)
{
    thread_pool *pool = thread_pool_create(4);
    size_t results[500];
    (void)state;
    for (int round = 0; round < 20; round++) {
        memset(results, 0, sizeof results);
        thread_pool_run(pool, square, results, 500);
        for (size_t i = 0; i < 500; i++)
            assert_int_equal(results[i], i * i);
    }
    thread_pool_destroy(pool);
}

typedef struct nest {
    thread_pool *pool;
    atomic_int total;
    atomic_int wrong;
} nest;

typedef struct inner_loop {
    nest *n;
    int outer_worker;
} inner_loop;

static void inner(void *context, size_t index, int worker)
{
    inner_loop *loop = context;
    (void)index;
    if (worker != loop->outer_worker)
        atomic_fetch_add(&loop->n->wrong, 1);
    atomic_fetch_add(&loop->n->total, 1);
}

static void outer(void *context, size_t index, int worker)
{
    nest *n = context;
    (void)index;
    thread_pool_run(n->pool, inner, &(inner_loop){n, worker}, 10);
}

static void nests(void **state)
{
    nest n = {.pool = thread_pool_create(3)};
    (void)state;
    thread_pool_run(n.pool, outer, &n, 50);
    thread_pool_run(n.pool, outer, &n, 1);
    assert_int_equal(atomic_load(&n.total), 510);
    assert_int_equal(atomic_load(&n.wrong), 0);
    thread_pool_destroy(n.pool);
}

static void *run_often(void *context)
{
    visits *v = context;
    for (int i = 0; i < 100; i++)
        thread_pool_run(v->pool, visit, v, 33);
    return NULL;
}

static void takes_several_callers(void **state)
{
    visits *v = calloc(1, sizeof *v);
    thread callers[4];
    (void)state;

    v->pool = thread_pool_create(3);
    for (int i = 0; i < 4; i++)
        assert_int_equal(thread_start(&callers[i], "caller", run_often, v), TSR_OK);
    for (int i = 0; i < 4; i++)
        thread_join(&callers[i]);
    check_visits(v, 33, 400);
    thread_pool_destroy(v->pool);
    free(v);
}

static void is_made_and_ended_often(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;
    for (int i = 0; i < 50; i++) {
        visits *v = calloc(1, sizeof *v);
        v->pool = thread_pool_create(1 + i % 4);
        if (i % 2 == 0)
            thread_pool_run(v->pool, visit, v, 5);
        thread_pool_destroy(v->pool);
        free(v);
    }
    thread_pool_destroy(NULL);
    assert_int_equal(host_live_allocations(), before);
}

static void pool_without_memory(void **state)
{
    const int64_t before = host_live_allocations();
    (void)state;

    for (int n = 0; n < 3; n++) {
        tsr_clear_error();
        host_alloc_fail_after(n);
        thread_pool *pool = thread_pool_create(3);
        host_alloc_fail_after(-1);
        assert_int_equal(pool != NULL, n == 2); /* the pool and its list of workers */
        assert_int_equal(tsr_last_status(), pool != NULL ? TSR_OK : TSR_OUT_OF_MEMORY);
        thread_pool_destroy(pool);
        assert_int_equal(host_live_allocations(), before);
    }
}

/* Where the system gives no more threads the pool works with those it has. */
static void pool_without_threads(void **state)
{
    (void)state;
    const char *preloaded = getenv("LD_PRELOAD");
    if (SANITIZED || (preloaded != NULL && strstr(preloaded, "vgpreload") != NULL)) {
        print_message("skipped: neither a sanitizer nor Valgrind runs in little address space\n");
        skip();
    }
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        visits *v = calloc(1, sizeof *v);
        /* Stacks of 8 MiB each: room for some tens of threads. */
        if (v == NULL || setrlimit(RLIMIT_AS, &(struct rlimit){400u << 20, 400u << 20}) != 0)
            _exit(2);
        thread_pool *pool = thread_pool_create(THREADS_MAX);
        if (pool == NULL || thread_pool_size(pool) >= THREADS_MAX || thread_pool_size(pool) < 2)
            _exit(3);
        if (tsr_last_status() != TSR_OK)
            _exit(4);
        v->pool = pool;
        thread_pool_run(pool, count_visit, v, MOST);
        for (size_t i = 0; i < MOST; i++) {
            if (atomic_load(&v->seen[i]) != 1)
                _exit(5);
        }
        thread_pool_destroy(pool);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

typedef struct mailbox {
    mutex lock;
    condition changed;
    int value;
} mailbox;

static void *answer(void *context)
{
    mailbox *box = context;
    mutex_lock(&box->lock);
    while (box->value != 1)
        condition_wait(&box->changed, &box->lock);
    box->value = 2;
    condition_broadcast(&box->changed);
    mutex_unlock(&box->lock);
    return NULL;
}

static void conditions(void **state)
{
    mailbox box = {.value = 0};
    thread other;
    (void)state;

    mutex_init(&box.lock);
    condition_init(&box.changed);
    mutex_lock(&box.lock);

    const double begin = clock_seconds();
    while (condition_wait_for(&box.changed, &box.lock, 0.02)) /* a wait may end early */
        ;
    const double waited = clock_seconds() - begin;
    assert_true(waited >= 0.02 && waited < 5);
    assert_false(condition_wait_for(&box.changed, &box.lock, -1));

    assert_int_equal(thread_start(&other, "a name longer than fifteen bytes", answer, &box), TSR_OK);
    box.value = 1;
    condition_signal(&box.changed);
    while (box.value != 2)
        assert_true(condition_wait_for(&box.changed, &box.lock, 1e30));
    mutex_unlock(&box.lock);
    thread_join(&other);

    assert_true(mutex_try_lock(&box.lock));
    mutex_unlock(&box.lock);
    condition_destroy(&box.changed);
    mutex_destroy(&box.lock);
}

static once first = ONCE_INIT;
static atomic_int times_run;

static void count_run(void)
{
    atomic_fetch_add(&times_run, 1);
}

static void run_once(void *context, size_t index, int worker)
{
    (void)context;
    (void)index;
    (void)worker;
    once_run(&first, count_run);
}

static void runs_once(void **state)
{
    thread_pool *pool = thread_pool_create(4);
    (void)state;
    thread_pool_run(pool, run_once, NULL, 100);
    assert_int_equal(atomic_load(&times_run), 1);
    thread_pool_destroy(pool);
}

static void counts_processors(void **state)
{
    static const char *const bad[] = {"0", "-1", "two", "2x", " 2", "+2", "1025", "99999999999999999999", "0x2", "2 "};
    int count;
    (void)state;

    unsetenv("TESSERA_NUM_THREADS");
    assert_int_equal(cpu_count(), processor_count());
    assert_true(processor_count() >= 1 && processor_count() <= THREADS_MAX);

    setenv("TESSERA_NUM_THREADS", "", 1);
    assert_int_equal(cpu_count(), processor_count());
    setenv("TESSERA_NUM_THREADS", "7", 1);
    assert_int_equal(cpu_count(), 7);
    assert_int_equal(cpu_count_checked(&count), TSR_OK);
    assert_int_equal(count, 7);
    setenv("TESSERA_NUM_THREADS", "1024", 1);
    assert_int_equal(cpu_count(), 1024);

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        setenv("TESSERA_NUM_THREADS", bad[i], 1);
        tsr_clear_error();
        assert_int_equal(cpu_count(), processor_count());
        assert_string_equal(tsr_last_error(), "");
        assert_int_equal(cpu_count_checked(&count), TSR_INVALID_ARGUMENT);
        assert_int_equal(count, processor_count());
        assert_non_null(strstr(tsr_last_error(), "TESSERA_NUM_THREADS="));
        assert_non_null(strstr(tsr_last_error(), bad[i]));
    }
    unsetenv("TESSERA_NUM_THREADS");
}

static void a_thread_leaves_a_processor_that_is_taken(void **state)
{
    (void)state;
    cpu_set_t before, after;
    uint64_t taken[THREADS_MAX / 64];
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    memset(taken, 0xff, sizeof taken);
    assert_false(processor_change(taken));
    for (int i = 0; i < processor_limit(); i++) {
        if (!CPU_ISSET(i, &before))
            continue;
        taken[i / 64] &= ~((uint64_t)1 << (i % 64));
        assert_true(processor_change(taken)); /* to i, unless the scheduler has moved it since */
        taken[i / 64] |= (uint64_t)1 << (i % 64);
        assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
        assert_true(CPU_EQUAL(&before, &after));
        assert_in_range(processor_current(), 0, processor_limit() - 1);
    }
}

static void time_goes_forward(void **state)
{
    (void)state;
    const uint64_t a = clock_ns();
    const double s = clock_seconds();
    pause_ns(5000000);
    const uint64_t b = clock_ns();
    assert_true(b - a >= 5000000);
    assert_true(s >= (double)a * 1e-9 - 1e-6 && s <= (double)b * 1e-9 + 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(visits_every_index_once),
        cmocka_unit_test(survives_any_rhythm),
        cmocka_unit_test(shares_the_work),
        cmocka_unit_test(publishes_results),
        cmocka_unit_test(nests),
        cmocka_unit_test(takes_several_callers),
        cmocka_unit_test(is_made_and_ended_often),
        cmocka_unit_test(pool_without_memory),
        cmocka_unit_test(pool_without_threads),
        cmocka_unit_test(conditions),
        cmocka_unit_test(runs_once),
        cmocka_unit_test(counts_processors),
        cmocka_unit_test(a_thread_leaves_a_processor_that_is_taken),
        cmocka_unit_test(time_goes_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
