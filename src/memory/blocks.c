#include "memory/blocks.h"

#include "base/checked.h"
#include "base/memory.h"

/* ---- bins ------------------------------------------------------------------------------------------------------ */

static int bin_of(size_t size)
{
    const size_t units = size / BLOCK_ROUND; /* >= 1 */
    int power = 0;
    while (power < 62 && units >> (power + 1) != 0)
        power++;
    const int quarter = power >= 2 ? (int)(units >> (power - 2) & 3) : 0;
    return 4 * power + quarter;
}

void bin_insert(allocator *a, block *b)
{
    block **head = &a->bins[b->segment->pool][bin_of(b->view.size)];
    b->previous = NULL;
    b->next = *head;
    if (*head != NULL)
        (*head)->previous = b;
    *head = b;
    a->stats.blocks_free++;
}

void bin_remove(allocator *a, block *b)
{
    if (b->previous != NULL)
        b->previous->next = b->next;
    else
        a->bins[b->segment->pool][bin_of(b->view.size)] = b->next;
    if (b->next != NULL)
        b->next->previous = b->previous;
    b->previous = b->next = NULL;
    a->stats.blocks_free--;
}

uint32_t block_pending(const allocator *a, const block *b)
{
    uint32_t mask = 0;
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if (b->uses[s] > a->slots[s].done)
            mask |= 1u << s;
    }
    return mask;
}

static bool usable_on(const allocator *a, const block *b, int slot)
{
    return (block_pending(a, b) & ~(1u << slot)) == 0;
}

/* ---- merging and splitting ---------------------------------------------------------------------------------------------------- */

static void take_uses(block *b, const block *other)
{
    for (int s = 0; s < ALLOCATOR_MAX_QUEUES; s++) {
        if (other->uses[s] > b->uses[s])
            b->uses[s] = other->uses[s];
    }
}

/* Blocks that wait for different queues stay apart: together they would be of use to neither. */
static bool may_merge(const allocator *a, const block *x, const block *y)
{
    if (x == NULL || y == NULL || x->used || y->used)
        return false;
    const uint32_t wait_x = block_pending(a, x), wait_y = block_pending(a, y);
    return wait_x == 0 || wait_y == 0 || wait_x == wait_y;
}

/* Both free and out of their bins; `right` ceases to be. */
static void join(block *left, block *right)
{
    left->view.size += right->view.size;
    take_uses(left, right);
    left->right = right->right;
    if (left->right != NULL)
        left->right->left = left;
    host_free(right);
}

void block_give_back(allocator *a, block *b)
{
    if (may_merge(a, b->left, b)) {
        block *left = b->left;
        bin_remove(a, left);
        join(left, b);
        b = left;
    }
    if (may_merge(a, b, b->right)) {
        bin_remove(a, b->right);
        join(b, b->right);
    }
    bin_insert(a, b);
}

void blocks_merge_all(allocator *a)
{
    for (segment *seg = a->segments; seg != NULL; seg = seg->next) {
        for (block *b = seg->first; b != NULL; b = b->right) {
            while (may_merge(a, b, b->right)) {
                bin_remove(a, b);
                bin_remove(a, b->right);
                join(b, b->right);
                bin_insert(a, b);
            }
        }
    }
}

void block_split(allocator *a, block *b, size_t size)
{
    const size_t rest = b->view.size - size;
    if (rest < BLOCK_ROUND || (b->segment->pool == 1 && size > SMALL_MOST && rest <= SMALL_MOST))
        return;
    block *tail = host_alloc(sizeof *tail);
    if (tail == NULL)
        return; /* the block is larger than it need be, that is all */
    *tail = *b;
    tail->view.offset += size;
    tail->view.size = rest;
    tail->left = b;
    if (tail->right != NULL)
        tail->right->left = tail;
    b->right = tail;
    b->view.size = size;
    bin_insert(a, tail);
}

block *blocks_best_fit(const allocator *a, int pool, size_t size, int slot, uint32_t *waits)
{
    for (int bin = bin_of(size); bin < BIN_COUNT; bin++) {
        block *best = NULL;
        for (block *b = a->bins[pool][bin]; b != NULL; b = b->next) {
            if (b->view.size < size || (best != NULL && b->view.size >= best->view.size))
                continue;
            if (usable_on(a, b, slot))
                best = b;
            else
                *waits |= block_pending(a, b) & ~(1u << slot);
        }
        if (best != NULL)
            return best;
    }
    return NULL;
}

size_t blocks_largest_free(const allocator *a)
{
    size_t largest = 0;
    for (int pool = 0; pool < POOL_COUNT; pool++) {
        for (int bin = BIN_COUNT - 1; bin >= 0; bin--) {
            for (const block *b = a->bins[pool][bin]; b != NULL; b = b->next)
                largest = max_size(largest, b->view.size);
        }
    }
    return largest;
}

static bool segment_is_consistent(const allocator *a, const segment *seg, allocator_statistics *sum)
{
    size_t offset = 0;
    const block *left = NULL;
    for (const block *b = seg->first; b != NULL; left = b, b = b->right) {
        if (b->view.offset != offset || b->view.size == 0 || b->left != left || b->segment != seg ||
            b->view.buffer != seg->buffer)
            return false;
        if (a->queue_count < 2 && may_merge(a, left, b))
            return false;
        offset += b->view.size;
        sum->allocated += b->used ? b->view.size : 0;
        *(b->used ? &sum->blocks_in_use : &sum->blocks_free) += 1;
    }
    sum->reserved += seg->size;
    sum->segments++;
    return offset == seg->size;
}

bool allocator_is_consistent(allocator *a)
{
    allocator_statistics sum = {0};
    bool good = true;
    mutex_lock(&a->lock);
    for (const segment *seg = a->segments; seg != NULL; seg = seg->next)
        good = good && segment_is_consistent(a, seg, &sum);

    uint64_t in_bins = 0;
    for (int pool = 0; pool < POOL_COUNT; pool++) {
        for (int bin = 0; bin < BIN_COUNT; bin++) {
            for (const block *b = a->bins[pool][bin]; b != NULL; b = b->next) {
                good = good && !b->used && bin_of(b->view.size) == bin && b->segment->pool == pool;
                in_bins++;
            }
        }
    }
    good = good && in_bins == sum.blocks_free && sum.allocated == a->stats.allocated &&
           sum.reserved == a->stats.reserved && sum.segments == a->stats.segments &&
           sum.blocks_in_use == a->stats.blocks_in_use && sum.blocks_free == a->stats.blocks_free;
    mutex_unlock(&a->lock);
    return good;
}
