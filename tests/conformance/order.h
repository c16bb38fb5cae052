/* The HAL conformance suite: what happens before what, on a queue, between queues and between threads. */
#ifndef TESSERA_TESTS_CONFORMANCE_ORDER_H
#define TESSERA_TESTS_CONFORMANCE_ORDER_H

#include "conformance/bench.h"

#include "base/clock.h"
#include "base/thread.h"

static void long_chains(bench *b)
{
    enum { COUNT = 3000, STEPS = 300 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_buffer *x = device_buffer(b, COUNT * 4);
    OK(hal_buffer_fill(b->queue, x, 0, COUNT * 4, 1));
    uint32_t expected = 1;
    for (uint32_t k = 0; k < STEPS; k++) {
        OK(step(b->queue, kernel, x, COUNT, k));
        expected = stepped(expected, k);
    }
    expect_words(b, x, COUNT, expected);
    hal_buffer_free(x);
}

/* Every pair of commands that must not be swapped: a write, copy, fill or launch behind one that reads or writes the same. */
static void commands_in_order(bench *b)
{
    enum { COUNT = 5000, BYTES = COUNT * 4 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_buffer *x = device_buffer(b, BYTES), *y = device_buffer(b, BYTES), *host;
    OK(hal_buffer_alloc(b->device, HAL_MEMORY_HOST, BYTES, &host));
    uint32_t *words = malloc(BYTES);
    uint32_t expected_x = 0, expected_y = 5;
    OK(hal_buffer_fill(b->queue, y, 0, BYTES, 5));
    for (uint32_t round = 0; round < 40; round++) {
        for (uint32_t i = 0; i < COUNT; i++)
            words[i] = round;
        OK(hal_buffer_write(b->queue, x, 0, words, BYTES)); /* behind last round's copy from x */
        OK(step(b->queue, kernel, x, COUNT, round));        /* behind the write */
        expected_x = stepped(round, round);
        if (round % 4 == 0) {
            OK(hal_buffer_copy(b->queue, x, 0, y, 0, BYTES)); /* behind the launch, and last round's launch on y */
            expected_y = expected_x;
        }
        OK(step(b->queue, kernel, y, COUNT, 3));
        expected_y = stepped(expected_y, 3);
        OK(hal_buffer_fill(b->queue, x, 0, BYTES, 9)); /* behind the copy that read x */
        OK(step(b->queue, kernel, x, COUNT, 1));
        expected_x = stepped(9, 1);
        if (round % 5 == 0) {
            OK(hal_buffer_copy(b->queue, y, 0, host, 0, BYTES));
            OK(hal_buffer_copy(b->queue, host, 0, x, 0, BYTES)); /* through host memory, without a wait */
            expected_x = expected_y;
        }
        OK(hal_buffer_copy(b->queue, x, 0, y, 0, BYTES / 2));
        OK(hal_buffer_copy(b->queue, y, BYTES / 2, y, 0, BYTES / 2));
    }
    expect_words(b, x, COUNT, expected_x);
    expect_words(b, y, COUNT, expected_y);
    free(words);
    hal_buffer_free(x);
    hal_buffer_free(y);
    hal_buffer_free(host);
}

static void many_in_flight(bench *b)
{
    enum { BUFFERS = 16, ROUNDS = 150, COUNT = 100 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_buffer *buffers[BUFFERS];
    uint32_t expected[BUFFERS];
    for (uint32_t i = 0; i < BUFFERS; i++) {
        buffers[i] = device_buffer(b, COUNT * 4);
        OK(hal_buffer_fill(b->queue, buffers[i], 0, COUNT * 4, expected[i] = i));
    }
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BUFFERS; i++) {
            OK(step(b->queue, kernel, buffers[i], COUNT, round + i));
            expected[i] = stepped(expected[i], round + i);
        }
    }
    for (uint32_t i = 0; i < BUFFERS; i++) {
        expect_words(b, buffers[i], COUNT, expected[i]);
        hal_buffer_free(buffers[i]);
    }
}

static void destroyed_while_queued(bench *b)
{
    enum { COUNT = 20000, BYTES = COUNT * 4 };
    const kernel_entry *entry = catalogue_find("selftest_step/i32", b->device->info.device_class);
    hal_buffer *result = device_buffer(b, BYTES);
    for (uint32_t round = 0; round < 10; round++) {
        hal_kernel_desc desc;
        hal_kernel *kernel;
        OK(catalogue_describe(entry, &b->device->info, &desc));
        OK(hal_kernel_create(b->device, &desc, &kernel));
        hal_buffer *x = device_buffer(b, BYTES);
        OK(hal_buffer_fill(b->queue, x, 0, BYTES, round));
        uint32_t expected = round;
        for (uint32_t k = 0; k < 10; k++) {
            OK(step(b->queue, kernel, x, COUNT, k));
            expected = stepped(expected, k);
        }
        OK(hal_buffer_copy(b->queue, x, 0, result, 0, BYTES));
        hal_buffer_free(x); /* what is queued goes on */
        hal_kernel_destroy(kernel);
        hal_buffer *other = device_buffer(b, BYTES); /* perhaps in the same place */
        OK(hal_buffer_fill(b->queue, other, 0, BYTES, 0xdeadbeef));
        expect_words(b, result, COUNT, expected);
        hal_buffer_free(other);
    }
    hal_buffer_free(result);
}

static void events_tell_what_is_done(bench *b)
{
    enum { COUNT = 50000 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_buffer *x = device_buffer(b, COUNT * 4);
    hal_event *begin, *end;
    OK(hal_event_create(b->device, &begin));
    OK(hal_event_create(b->device, &end));
    bool done = false;
    OK(hal_event_query(begin, &done));
    assert_true(done); /* never recorded */
    OK(hal_event_sync(begin));

    OK(hal_buffer_fill(b->queue, x, 0, COUNT * 4, 1));
    for (int round = 0; round < 3; round++) { /* recording again replaces */
        OK(hal_event_record(b->queue, begin));
        for (uint32_t k = 0; k < 20; k++)
            OK(step(b->queue, kernel, x, COUNT, k));
        OK(hal_event_record(b->queue, end));
        OK(hal_event_sync(end));
        OK(hal_event_query(end, &done));
        assert_true(done);
        OK(hal_event_query(begin, &done));
        assert_true(done); /* what comes before is done too */
        double ms = -1;
        OK(hal_event_elapsed(begin, end, &ms));
        assert_true(ms >= 0 && ms < 60000);
    }

    /* Without any wait, a flush alone makes the event come about. */
    OK(step(b->queue, kernel, x, COUNT, 1));
    OK(hal_event_record(b->queue, end));
    OK(hal_queue_flush(b->queue));
    const double give_up = clock_seconds() + 30;
    done = false;
    while (!done && clock_seconds() < give_up)
        OK(hal_event_query(end, &done));
    assert_true(done);
    hal_event_destroy(begin);
    hal_event_destroy(end);
    hal_buffer_free(x);
}

static void queues_wait_for_each_other(bench *b)
{
    enum { COUNT = 30000, BYTES = COUNT * 4 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_queue *second, *copier;
    hal_event *mine, *theirs, *copied;
    OK(hal_queue_create(b->device, HAL_QUEUE_COMPUTE, &second));
    OK(hal_queue_create(b->device, HAL_QUEUE_COPY, &copier));
    OK(hal_event_create(b->device, &mine));
    OK(hal_event_create(b->device, &theirs));
    OK(hal_event_create(b->device, &copied));
    hal_buffer *x = device_buffer(b, BYTES), *y = device_buffer(b, BYTES);
    OK(hal_queue_wait(second, mine)); /* never recorded: no wait */
    OK(hal_buffer_fill(b->queue, x, 0, BYTES, 2));
    uint32_t expected = 2;
    for (uint32_t round = 0; round < 40; round++) {
        OK(step(b->queue, kernel, x, COUNT, round));
        expected = stepped(expected, round);
        OK(hal_event_record(b->queue, mine));
        OK(hal_queue_wait(second, mine));
        OK(step(second, kernel, x, COUNT, 2 * round));
        expected = stepped(expected, 2 * round);
        OK(hal_event_record(second, theirs));
        OK(hal_queue_wait(copier, theirs));
        OK(hal_buffer_copy(copier, x, 0, y, 0, BYTES));
        OK(hal_event_record(copier, copied));
        OK(hal_queue_wait(b->queue, copied));
    }
    OK(hal_queue_sync(copier));
    expect_words(b, y, COUNT, expected);
    expect_words(b, x, COUNT, expected);

    /* An event outlives the queue on which it was recorded, and is done then. */
    OK(step(second, kernel, x, COUNT, 1));
    OK(hal_event_record(second, theirs));
    hal_queue_destroy(second);
    bool done = false;
    OK(hal_event_query(theirs, &done));
    assert_true(done);
    OK(hal_queue_wait(b->queue, theirs));
    expect_words(b, x, COUNT, stepped(expected, 1));
    hal_queue_destroy(copier);
    hal_event_destroy(mine);
    hal_event_destroy(theirs);
    hal_event_destroy(copied);
    hal_buffer_free(x);
    hal_buffer_free(y);
}

typedef struct worker {
    bench *b;
    hal_queue *queue;
    hal_kernel *kernel;
    uint32_t seed;
    tsr_status status;
    char message[256];
    uint32_t wrong;
} worker;

static tsr_status use_device(worker *w)
{
    enum { COUNT = 2000, BYTES = COUNT * 4 };
    uint32_t words[COUNT];
    hal_buffer *x = NULL;
    hal_event *event = NULL;
    tsr_status status = hal_buffer_alloc(w->b->device, HAL_MEMORY_DEVICE, BYTES, &x);
    if (status == TSR_OK)
        status = hal_event_create(w->b->device, &event);
    for (uint32_t round = 0; round < 15 && status == TSR_OK; round++) {
        uint32_t expected = w->seed + round;
        status = hal_buffer_fill(w->queue, x, 0, BYTES, expected);
        for (uint32_t k = 0; k < 10 && status == TSR_OK; k++) {
            status = step(w->queue, w->kernel, x, COUNT, k + w->seed);
            expected = stepped(expected, k + w->seed);
        }
        if (status == TSR_OK)
            status = hal_event_record(w->queue, event);
        if (status == TSR_OK)
            status = hal_event_sync(event); /* while others submit to the same queue */
        if (status == TSR_OK)
            status = hal_buffer_read(w->queue, x, 0, words, BYTES);
        for (uint32_t i = 0; i < COUNT && status == TSR_OK; i++)
            w->wrong += words[i] != expected;
    }
    hal_event_destroy(event);
    hal_buffer_free(x);
    return status;
}

static void *worker_main(void *argument)
{
    worker *w = argument;
    w->status = use_device(w);
    snprintf(w->message, sizeof w->message, "%s", tsr_last_error());
    return NULL;
}

static void threads_share_a_device(bench *b)
{
    enum { THREADS = 4 };
    hal_kernel *kernel = kernel_of(b, "selftest_step/i32");
    hal_queue *own;
    OK(hal_queue_create(b->device, HAL_QUEUE_COMPUTE, &own));
    thread threads[THREADS];
    worker workers[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) { /* two on a queue */
        workers[i] = (worker){.b = b, .queue = i % 2 == 0 ? b->queue : own, .kernel = kernel, .seed = 10 * i};
        OK(thread_start(&threads[i], "conformance", worker_main, &workers[i]));
    }
    for (uint32_t i = 0; i < THREADS; i++)
        thread_join(&threads[i]);
    for (uint32_t i = 0; i < THREADS; i++) {
        if (workers[i].status != TSR_OK)
            print_error("%s: thread %u: %s\n", b->id, (unsigned)i, workers[i].message);
        assert_int_equal(workers[i].status, TSR_OK);
        assert_int_equal(workers[i].wrong, 0);
    }
    hal_queue_destroy(own);
}

#endif
