#include "unit.h"

#include "fake_hal.h"

#include "base/memory.h"
#include "base/thread.h"
#include "memory/allocator.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

extern const hal_backend cpu_backend;

typedef struct fixture {
    hal_device *device;
    hal_queue *queue, *second;
    allocator *a;
} fixture;

static int setup(void **state)
{
    static fixture f;
    fake_reset();
    assert_int_equal(hal_device_open(&fake_backend, 0, &f.device), TSR_OK);
    assert_int_equal(hal_queue_create(f.device, HAL_QUEUE_COMPUTE, &f.queue), TSR_OK);
    assert_int_equal(hal_queue_create(f.device, HAL_QUEUE_COPY, &f.second), TSR_OK);
    assert_int_equal(allocator_create(f.device, HAL_MEMORY_DEVICE, &f.a), TSR_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    assert_true(allocator_is_consistent(f->a));
    allocator_destroy(f->a);
    hal_queue_destroy(f->second);
    hal_queue_destroy(f->queue);
    assert_int_equal(hal_device_close(f->device), TSR_OK);
    assert_int_equal(fake.held, 0);
    assert_int_equal(host_live_allocations(), 0);
    return 0;
}

static memory_block *take(const fixture *f, size_t size)
{
    memory_block *b = NULL;
    assert_int_equal(allocator_alloc(f->a, f->queue, size, &b), TSR_OK);
    assert_non_null(b);
    assert_true(b->size >= size && b->offset % 512 == 0 && b->offset + b->size <= b->buffer->size);
    return b;
}

static memory_block *take_on(const fixture *f, hal_queue *queue, size_t size)
{
    memory_block *b = NULL;
    assert_int_equal(allocator_alloc(f->a, queue, size, &b), TSR_OK);
    return b;
}

static void give(const fixture *f, memory_block *b)
{
    allocator_free(f->a, b);
    assert_true(allocator_is_consistent(f->a));
}

static void rounds_and_sizes_segments(void **state)
{
    fixture *f = *state;
    static const struct {
        size_t size, block, segment;
    } rows[] = {
        {0, 512, 2 * MIB},
        {1, 512, 2 * MIB},
        {512, 512, 2 * MIB},
        {513, 1024, 2 * MIB},
        {MIB, MIB, 2 * MIB},
        {MIB + 1, MIB + 512, 20 * MIB},
        {10 * MIB - 512, 10 * MIB - 512, 20 * MIB},
        {9 * MIB, 9 * MIB, 18 * MIB}, /* two of them */
        {10 * MIB, 10 * MIB, 10 * MIB},
        {11 * MIB, 12 * MIB, 12 * MIB},              /* a rest of 1 MiB is not cut off */
        {100 * MIB + 1, 100 * MIB + 512, 102 * MIB}, /* a larger one is */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        memory_block *b = take(f, rows[i].size);
        assert_int_equal(b->size, rows[i].block);
        assert_int_equal(b->buffer->size, rows[i].segment);
        allocator_statistics s = allocator_stats(f->a);
        assert_int_equal(s.allocated, rows[i].block);
        assert_int_equal(s.reserved, rows[i].segment);
        give(f, b);
        allocator_trim(f->a);
        s = allocator_stats(f->a);
        assert_int_equal(s.allocated, 0);
        assert_int_equal(s.reserved, 0);
        assert_int_equal(s.largest_free, 0);
        assert_int_equal(s.driver_allocations, i + 1);
        assert_int_equal(s.driver_frees, i + 1);
    }
    assert_int_equal(allocator_stats(f->a).peak_allocated, 100 * MIB + 512);
    allocator_reset_peaks(f->a);
    assert_int_equal(allocator_stats(f->a).peak_allocated, 0);
}

static void splits_merges_and_fits_best(void **state)
{
    fixture *f = *state;
    memory_block *b[8];
    for (int i = 0; i < 8; i++)
        b[i] = take(f, 256 * KIB);
    allocator_statistics s = allocator_stats(f->a);
    assert_int_equal(s.segments, 1); /* 2 MiB, exactly full */
    assert_int_equal(s.blocks_free, 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(b[i]->offset, (size_t)i * 256 * KIB);

    /* Holes of 1, 2 and 1 blocks: a request for 2 goes to the one it fills, one for 1 to the first small one. */
    give(f, b[1]);
    give(f, b[3]);
    give(f, b[4]);
    give(f, b[6]);
    s = allocator_stats(f->a);
    assert_int_equal(s.blocks_free, 3);
    assert_int_equal(s.largest_free, 512 * KIB);
    memory_block *two = take(f, 512 * KIB);
    assert_int_equal(two->offset, 3 * 256 * KIB);
    memory_block *one = take(f, 200 * KIB);
    assert_true(one->offset == 256 * KIB || one->offset == 6 * 256 * KIB);
    assert_int_equal(allocator_stats(f->a).segments, 1);
    assert_int_equal(allocator_stats(f->a).cache_hits, 9);

    /* Everything back is one block again, whatever the order. */
    give(f, one);
    give(f, two);
    static const int order[] = {7, 0, 5, 2};
    for (size_t i = 0; i < 4; i++)
        give(f, b[order[i]]);
    s = allocator_stats(f->a);
    assert_int_equal(s.blocks_free, 1);
    assert_int_equal(s.largest_free, 2 * MIB);
    assert_int_equal(s.driver_allocations, 1);
    allocator_free(f->a, NULL);
}

static void small_and_large_do_not_mix(void **state)
{
    fixture *f = *state;
    give(f, take(f, 50 * MIB));
    memory_block *small = take(f, 100);
    assert_int_equal(small->buffer->size, 2 * MIB); /* not a piece of the large one */
    memory_block *large = take(f, 30 * MIB);
    assert_int_equal(large->buffer->size, 50 * MIB);
    memory_block *rest = take(f, 20 * MIB);
    assert_ptr_equal(rest->buffer, large->buffer);
    give(f, small);
    give(f, large);
    allocator_trim(f->a); /* the segment whose other part is in use stays */
    assert_int_equal(allocator_stats(f->a).reserved, 50 * MIB);
    give(f, rest);
}

static void same_queue_reuses_at_once(void **state)
{
    fixture *f = *state;
    memory_block *b = take(f, 4 * KIB);
    const size_t offset = b->offset;
    hal_buffer *buffer = b->buffer;
    give(f, b);
    assert_int_equal(fake.records, 0); /* one queue needs no events */
    b = take(f, 4 * KIB);
    assert_true(b->offset == offset && b->buffer == buffer);
    give(f, b);
}

static void another_queue_waits_for_the_event(void **state)
{
    fixture *f = *state;
    memory_block *b = take(f, 20 * MIB);
    hal_buffer *buffer = b->buffer;
    give(f, b);

    /* The work that used it may still run: the other queue gets other memory. */
    memory_block *other = take_on(f, f->second, 20 * MIB);
    assert_true(other->buffer != buffer);
    assert_int_equal(fake.records, 1);
    /* ... and so again, without another event. */
    memory_block *third = take_on(f, f->second, 20 * MIB);
    assert_true(third->buffer != buffer);
    assert_int_equal(fake.records, 1);

    fake_finish(f->queue);
    memory_block *now = take_on(f, f->second, 20 * MIB);
    assert_ptr_equal(now->buffer, buffer);
    give(f, now);
    give(f, other);
    give(f, third);
}

static void recorded_queues_hold_a_block(void **state)
{
    fixture *f = *state;
    memory_block *b = take(f, 20 * MIB);
    hal_buffer *buffer = b->buffer;
    assert_int_equal(allocator_record_queue(f->a, b, f->second), TSR_OK);
    give(f, b);
    assert_int_equal(fake.records, 2); /* a mark on each */

    memory_block *x = take(f, 20 * MIB); /* even its own queue must wait for the other */
    assert_true(x->buffer != buffer);
    memory_block *y = take_on(f, f->second, 20 * MIB); /* and the other for its own */
    assert_true(y->buffer != buffer);

    fake_finish(f->second);
    memory_block *z = take(f, 20 * MIB);
    assert_ptr_equal(z->buffer, buffer); /* the first queue may; its own work is in order */
    give(f, x);
    give(f, y);
    give(f, z);
}

/* A mark that is under way covers only what came before it. */
static void later_uses_need_a_later_event(void **state)
{
    fixture *f = *state;
    memory_block *much = take(f, 400 * MIB); /* so that nothing goes back to the driver to make room */
    give(f, take_on(f, f->second, 512));
    memory_block *a = take(f, 20 * MIB), *b = take(f, 30 * MIB);
    hal_buffer *first = a->buffer, *later = b->buffer;
    give(f, a); /* the mark of the first queue */
    give(f, b); /* it is under way: no second one */
    fake_finish(f->queue);
    fake_queue *queue = (fake_queue *)f->queue;
    queue->submitted++; /* more work behind the mark */

    memory_block *x = take_on(f, f->second, 20 * MIB);
    assert_ptr_equal(x->buffer, first);
    memory_block *y = take_on(f, f->second, 30 * MIB);
    assert_true(y->buffer != later);
    fake_finish(f->queue);
    memory_block *z = take_on(f, f->second, 30 * MIB);
    assert_ptr_equal(z->buffer, later);
    give(f, x);
    give(f, y);
    give(f, z);
    give(f, much);
}

/* Neighbours that wait for different queues do not merge until they need not wait. */
static void neighbours_of_two_queues(void **state)
{
    fixture *f = *state;
    memory_block *a = take(f, MIB), *b = NULL;
    give(f, take_on(f, f->second, 512)); /* makes the second queue known */
    fake_finish(f->second);
    give(f, take_on(f, f->queue, 512));
    fake_finish(f->queue);
    b = take_on(f, f->second, MIB);
    assert_ptr_equal(a->buffer, b->buffer);
    hal_buffer *buffer = a->buffer;
    give(f, a);
    give(f, b);
    assert_int_equal(allocator_stats(f->a).largest_free, MIB);

    fake_finish(f->queue);
    fake_finish(f->second);
    /* 1.5 MiB would be for the large pool; ask for a full MiB twice, from either side of the seam, then trim. */
    memory_block *x = take(f, 768 * KIB), *y = take(f, 768 * KIB), *z = take(f, 512 * KIB);
    assert_true(x->buffer == buffer && y->buffer == buffer && z->buffer == buffer);
    assert_int_equal(allocator_stats(f->a).segments, 1);
    give(f, x);
    give(f, y);
    give(f, z);
}

static void forgetting_a_queue(void **state)
{
    fixture *f = *state;
    memory_block *held = take_on(f, f->second, 20 * MIB);
    memory_block *b = take_on(f, f->second, 20 * MIB);
    hal_buffer *buffer = b->buffer, *held_buffer = held->buffer;
    give(f, b);
    assert_int_equal(allocator_forget_queue(f->a, f->second), TSR_OK); /* waits */
    assert_int_equal(fake.syncs, 1);
    memory_block *now = take(f, 20 * MIB);
    assert_ptr_equal(now->buffer, buffer);
    give(f, held);
    held = take(f, 20 * MIB);
    assert_ptr_equal(held->buffer, held_buffer);
    give(f, held);
    give(f, now);
    assert_int_equal(allocator_forget_queue(f->a, f->second), TSR_OK); /* not known: nothing to do */
    assert_int_equal(allocator_forget_queue(f->a, NULL), TSR_OK);
}

static void too_many_queues(void **state)
{
    fixture *f = *state;
    hal_queue *queues[ALLOCATOR_MAX_QUEUES];
    memory_block *b[ALLOCATOR_MAX_QUEUES];
    for (int i = 0; i < ALLOCATOR_MAX_QUEUES; i++) {
        assert_int_equal(hal_queue_create(f->device, HAL_QUEUE_COMPUTE, &queues[i]), TSR_OK);
        b[i] = take_on(f, queues[i], 100);
    }
    memory_block *one_more;
    assert_int_equal(allocator_alloc(f->a, f->queue, 100, &one_more), TSR_UNSUPPORTED);
    assert_null(one_more);
    assert_int_equal(allocator_record_queue(f->a, b[0], f->queue), TSR_UNSUPPORTED);
    for (int i = 0; i < ALLOCATOR_MAX_QUEUES; i++) {
        give(f, b[i]);
        assert_int_equal(allocator_forget_queue(f->a, queues[i]), TSR_OK);
        hal_queue_destroy(queues[i]);
    }
    give(f, take(f, 100));
}

static void gives_back_one_then_all(void **state)
{
    fixture *f = *state;
    fake.memory = 100 * MIB;
    memory_block *held = take(f, 40 * MIB);
    memory_block *x = take(f, 16 * MIB), *y = take(f, 40 * MIB);
    give(f, x);
    give(f, y);
    assert_int_equal(fake.held, 96 * MIB);

    /* 42 fits into no cached block: the largest goes, as all of them and 42 would be too much beyond the 96 that were in use. */
    tsr_clear_error();
    memory_block *z = take(f, 42 * MIB);
    assert_int_equal(tsr_last_status(), TSR_OK); /* what was tried on the way is no failure */
    assert_int_equal(fake.held, 98 * MIB);
    assert_int_equal(allocator_stats(f->a).driver_frees, 1);
    give(f, z);

    /* Now 18 more than is left: giving back the 42 is enough, and only it goes. */
    memory_block *small = take(f, 100);
    give(f, small);
    memory_block *w = take_on(f, f->second, 18 * MIB); /* another queue cannot use the cached 42 */
    assert_int_equal(allocator_stats(f->a).driver_frees, 2);
    assert_int_equal(fake.held, 40 * MIB + 16 * MIB + 2 * MIB + 18 * MIB);
    give(f, w);

    /* More than there can be: a sentence with the numbers, and what is in use is untouched. */
    memory_block *none;
    assert_int_equal(allocator_alloc(f->a, f->queue, 70 * MIB, &none), TSR_OUT_OF_DEVICE_MEMORY);
    assert_null(none);
    const char *const words[] = {"fake:0",
                                 "73400320 bytes (70.0 MiB)",
                                 "40.0 MiB are in use",
                                 "36.0 MiB were cached",
                                 "largest free block had 18.0 MiB",
                                 "smaller batch",
                                 "the fake driver has no"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strstr(tsr_last_error(), words[i]) == NULL)
            print_error("\"%s\" does not say \"%s\"\n", tsr_last_error(), words[i]);
        assert_non_null(strstr(tsr_last_error(), words[i]));
    }
    assert_int_equal(fake.held, 40 * MIB);
    assert_true(fake.syncs > 0);

    /* Rounding up is given up where the exact size still fits. */
    fake.memory = 99 * MIB;
    memory_block *exact = take(f, 59 * MIB);
    assert_int_equal(exact->size, 59 * MIB);
    give(f, exact);
    give(f, held);
}

/* What is reserved stays near the most that was in use. */
static void keeps_near_the_high_water(void **state)
{
    fixture *f = *state;
    give(f, take(f, 60 * MIB));
    memory_block *b = take(f, 84 * MIB); /* 144 would be more than 84 and 24 */
    assert_int_equal(allocator_stats(f->a).reserved, 84 * MIB);
    give(f, b);
    memory_block *part = take(f, 20 * MIB), *x = take(f, 64 * MIB);
    assert_ptr_equal(part->buffer, x->buffer);
    memory_block *y = take(f, 36 * MIB); /* nothing is idle */
    assert_int_equal(allocator_stats(f->a).reserved, 120 * MIB);
    give(f, y);
    assert_int_equal(allocator_stats(f->a).reserved, 120 * MIB); /* that is no more than was in use */
    give(f, x);
    allocator_trim(f->a); /* the high water is that of now: 20 */
    assert_int_equal(allocator_stats(f->a).reserved, 84 * MIB);
    x = take(f, 2 * MIB);
    y = take(f, 70 * MIB);
    assert_int_equal(allocator_stats(f->a).reserved, 154 * MIB);

    /* A small request finds no room of its own: in place of 2 MiB more than 92 and 24 it gets a piece of a large segment. */
    memory_block *small = take(f, 100);
    assert_true(small->buffer == x->buffer && small->size == 512);
    give(f, small);
    give(f, y); /* 154 are more than 92 and 32: the segment goes */
    assert_int_equal(allocator_stats(f->a).reserved, 84 * MIB);
    give(f, x);
    give(f, part);
}

static void other_failures_are_not_retried(void **state)
{
    fixture *f = *state;
    give(f, take(f, 100));
    memory_block *b;
    fake.next = TSR_DRIVER_ERROR;
    assert_int_equal(allocator_alloc(f->a, f->queue, 5 * MIB, &b), TSR_DRIVER_ERROR);
    assert_int_equal(allocator_stats(f->a).driver_frees, 0);
    assert_int_equal(fake.syncs, 0);
    fake.next = TSR_OK;

    for (int64_t n = 0; n < 2; n++) { /* segment and block */
        host_alloc_fail_after(n);
        const tsr_status status = allocator_alloc(f->a, f->queue, 5 * MIB, &b);
        host_alloc_fail_after(-1);
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
    }
    /* A block that cannot be split is given whole. */
    host_alloc_fail_after(0);
    const tsr_status status = allocator_alloc(f->a, f->queue, 100, &b);
    host_alloc_fail_after(-1);
    assert_int_equal(status, TSR_OK);
    assert_int_equal(b->size, 2 * MIB);
    give(f, b);

    hal_device *device;
    hal_queue *stranger;
    assert_int_equal(hal_device_open(&fake_backend, 0, &device), TSR_OK);
    assert_int_equal(hal_queue_create(device, HAL_QUEUE_COMPUTE, &stranger), TSR_OK);
    assert_int_equal(allocator_alloc(f->a, stranger, 100, &b), TSR_INVALID_ARGUMENT);
    assert_int_equal(allocator_alloc(f->a, NULL, 100, &b), TSR_INVALID_ARGUMENT);
    hal_queue_destroy(stranger);
    assert_int_equal(hal_device_close(device), TSR_OK);
}

static void lost_device_can_be_taken_down(void **state)
{
    fixture *f = *state;
    memory_block *b = take(f, 5 * MIB), *c = take_on(f, f->second, 5 * MIB), *none;
    assert_int_equal(hal_device_lose(f->device), TSR_OK);
    assert_int_equal(hal_device_status(f->device), TSR_DEVICE_LOST);
    assert_int_equal(allocator_alloc(f->a, f->queue, 50 * MIB, &none), TSR_DEVICE_LOST);
    tsr_clear_error();
    give(f, b);
    give(f, c);
    assert_int_equal(tsr_last_status(), TSR_OK);
    allocator_trim(f->a);
    assert_int_equal(fake.held, 0);
}

static void limits(void **state)
{
    fixture *f = *state;
    memory_block *b;
    allocator_limit(f->a, 30 * MIB);
    memory_block *held = take(f, 12 * MIB);
    give(f, take(f, 16 * MIB));
    memory_block *other = take(f, 18 * MIB); /* the cached 16 make way */
    assert_int_equal(allocator_stats(f->a).reserved, 30 * MIB);
    assert_int_equal(allocator_alloc(f->a, f->queue, 1, &b), TSR_OUT_OF_DEVICE_MEMORY);
    assert_non_null(strstr(tsr_last_error(), "limit of 31457280 bytes"));
    allocator_limit(f->a, 5 * MIB); /* below what is held */
    assert_int_equal(allocator_alloc(f->a, f->queue, 1, &b), TSR_OUT_OF_DEVICE_MEMORY);
    allocator_limit(f->a, 0);
    give(f, take(f, 1));
    give(f, held);
    give(f, other);
}

static void largest_buffer(void **state)
{
    fixture *f = *state;
    memory_block *b;
    fake.max_buffer = f->device->info.max_buffer_bytes = 3 * MIB + 100;
    memory_block *big = take(f, 2 * MIB); /* no segment of 20 MiB is possible */
    assert_int_equal(big->buffer->size, 3 * MIB);
    give(f, big);
    give(f, take(f, 3 * MIB));
    assert_int_equal(allocator_alloc(f->a, f->queue, 3 * MIB + 101, &b), TSR_OUT_OF_DEVICE_MEMORY);
    assert_non_null(strstr(tsr_last_error(), "largest buffer of fake:0"));
    assert_int_equal(allocator_alloc(f->a, f->queue, SIZE_MAX, &b), TSR_OUT_OF_DEVICE_MEMORY);
    assert_int_equal(allocator_stats(f->a).driver_frees, 0);
}

static void pinned_blocks_have_addresses(void **state)
{
    fixture *f = *state;
    allocator *pinned;
    memory_block *x, *y;
    assert_int_equal(allocator_create(f->device, HAL_MEMORY_HOST, &pinned), TSR_OK);
    assert_int_equal(allocator_alloc(pinned, f->queue, 1000, &x), TSR_OK);
    assert_int_equal(allocator_alloc(pinned, f->queue, 1000, &y), TSR_OK);
    assert_int_equal(x->buffer->memory, HAL_MEMORY_HOST);
    assert_int_equal((char *)memory_block_map(y) - (char *)memory_block_map(x), 1024);
    memset(memory_block_map(x), 1, x->size);
    allocator_destroy(pinned); /* blocks in use included */

    memory_block *device = take(f, 10);
    assert_null(memory_block_map(device));
    give(f, device);
}

/* A random program against a model: no two blocks in use overlap, all are aligned, and cached memory is bounded. */
static void random_program(void **state)
{
    fixture *f = *state;
    enum { LIVE = 200, STEPS = 20000 };
    static struct {
        memory_block *block;
        hal_queue *queue;
    } live[LIVE];
    memset(live, 0, sizeof live);
    uint32_t seed = 12345;
#define RANDOM() (seed = seed * 1664525u + 1013904223u, seed >> 8)
    uint64_t model = 0;
    for (int step = 0; step < STEPS; step++) {
        const uint32_t i = RANDOM() % LIVE;
        if (live[i].block != NULL) {
            model -= live[i].block->size;
            if (RANDOM() % 8 == 0)
                assert_int_equal(allocator_record_queue(f->a, live[i].block, f->second), TSR_OK);
            allocator_free(f->a, live[i].block);
            live[i].block = NULL;
        } else {
            const uint32_t kind = RANDOM() % 10;
            const size_t size = kind < 6   ? RANDOM() % (64 * KIB)
                                : kind < 9 ? RANDOM() % (8 * MIB)
                                           : RANDOM() % (40 * MIB);
            live[i].queue = RANDOM() % 4 == 0 ? f->second : f->queue;
            live[i].block = take_on(f, live[i].queue, size);
            const memory_block *b = live[i].block;
            assert_true(b->size >= size && b->offset % 512 == 0 && b->offset + b->size <= b->buffer->size);
            for (uint32_t j = 0; j < LIVE; j++) {
                const memory_block *o = live[j].block;
                if (j != i && o != NULL && o->buffer == b->buffer)
                    assert_true(o->offset + o->size <= b->offset || b->offset + b->size <= o->offset);
            }
            model += b->size;
        }
        if (RANDOM() % 16 == 0)
            fake_finish(f->queue);
        if (RANDOM() % 16 == 0)
            fake_finish(f->second);
        if (RANDOM() % 2000 == 0)
            allocator_trim(f->a);
        if (step % 64 == 0)
            assert_true(allocator_is_consistent(f->a));
        assert_int_equal(allocator_stats(f->a).allocated, model);
    }
    for (uint32_t i = 0; i < LIVE; i++)
        allocator_free(f->a, live[i].block);
    const allocator_statistics s = allocator_stats(f->a);
    assert_int_equal(s.allocated, 0);
    assert_true(s.cache_hits > s.driver_allocations * 10);
    assert_true(s.peak_reserved < 2 * s.peak_allocated + 100 * MIB);
    assert_int_equal(s.driver_allocations, hal_device_counters(f->device).allocations);
}

/* Every step of a training loop asks for the same: the driver is asked in the first only. */
static void steady_state_asks_no_driver(void **state)
{
    fixture *f = *state;
    uint64_t after_first = 0;
    for (int step = 0; step < 50; step++) {
        memory_block *b[40];
        for (size_t i = 0; i < 40; i++)
            b[i] = take(f, (i * 7919 % 40 + 1) * 37 * KIB);
        for (size_t i = 0; i < 40; i++)
            allocator_free(f->a, b[i * 13 % 40]);
        if (step == 0)
            after_first = allocator_stats(f->a).driver_allocations;
    }
    assert_int_equal(allocator_stats(f->a).driver_allocations, after_first);
}

typedef struct job {
    allocator *a;
    hal_queue *queue;
    unsigned seed;
    int failures;
} job;

static void *use_memory(void *argument)
{
    job *j = argument;
    memory_block *live[32] = {NULL};
    for (int step = 0; step < 3000; step++) {
        j->seed = j->seed * 1664525u + 1013904223u;
        const unsigned i = (j->seed >> 8) % 32;
        if (live[i] != NULL) {
            /* Still ours: nobody else wrote. */
            const unsigned char *bytes = memory_block_map(live[i]);
            j->failures += bytes[0] != (unsigned char)i || bytes[live[i]->size - 1] != (unsigned char)i;
            allocator_free(j->a, live[i]);
            live[i] = NULL;
        } else if (allocator_alloc(j->a, j->queue, (j->seed >> 12) % 3000, &live[i]) == TSR_OK) {
            memset(memory_block_map(live[i]), (int)i, live[i]->size);
        } else {
            j->failures++;
        }
    }
    for (int i = 0; i < 32; i++)
        allocator_free(j->a, live[i]);
    return NULL;
}

static void threads_share_an_allocator(void **state)
{
    (void)state;
    hal_device *device;
    hal_queue *queues[2];
    allocator *a;
    assert_int_equal(hal_device_open(&cpu_backend, 0, &device), TSR_OK);
    assert_int_equal(hal_queue_create(device, HAL_QUEUE_COMPUTE, &queues[0]), TSR_OK);
    assert_int_equal(hal_queue_create(device, HAL_QUEUE_COPY, &queues[1]), TSR_OK);
    assert_int_equal(allocator_create(device, HAL_MEMORY_HOST, &a), TSR_OK);

    thread threads[4];
    job jobs[4];
    for (unsigned i = 0; i < 4; i++) {
        jobs[i] = (job){.a = a, .queue = queues[i % 2], .seed = i + 1};
        assert_int_equal(thread_start(&threads[i], "allocator", use_memory, &jobs[i]), TSR_OK);
    }
    for (unsigned i = 0; i < 4; i++) {
        thread_join(&threads[i]);
        assert_int_equal(jobs[i].failures, 0);
    }
    assert_true(allocator_is_consistent(a));
    assert_int_equal(allocator_stats(a).allocated, 0);
    allocator_destroy(a);
    hal_queue_destroy(queues[0]);
    hal_queue_destroy(queues[1]);
    assert_int_equal(hal_device_close(device), TSR_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rounds_and_sizes_segments),
        TEST(splits_merges_and_fits_best),
        TEST(small_and_large_do_not_mix),
        TEST(same_queue_reuses_at_once),
        TEST(another_queue_waits_for_the_event),
        TEST(recorded_queues_hold_a_block),
        TEST(later_uses_need_a_later_event),
        TEST(neighbours_of_two_queues),
        TEST(forgetting_a_queue),
        TEST(too_many_queues),
        TEST(gives_back_one_then_all),
        TEST(keeps_near_the_high_water),
        TEST(other_failures_are_not_retried),
        TEST(lost_device_can_be_taken_down),
        TEST(limits),
        TEST(largest_buffer),
        TEST(pinned_blocks_have_addresses),
        TEST(random_program),
        TEST(steady_state_asks_no_driver),
        cmocka_unit_test(threads_share_an_allocator),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
