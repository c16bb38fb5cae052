#include "order_ranges.h"

#include <stdlib.h>

static uint32_t random_priority(order_ranges *ranges)
{
    ranges->seed = ranges->seed * 1664525u + 1013904223u;
    return ranges->seed;
}

static order_range *merge(order_range *left, order_range *right)
{
    if (left == NULL)
        return right;
    if (right == NULL)
        return left;
    if (left->priority > right->priority) {
        left->right = merge(left->right, right);
        return left;
    }
    right->left = merge(left, right->left);
    return right;
}

/* What begins before `place`, and the rest. */
static void split(order_range *root, uint64_t place, order_range **left, order_range **right)
{
    if (root == NULL) {
        *left = *right = NULL;
    } else if (root->begin < place) {
        split(root->right, place, &root->right, right);
        *left = root;
    } else {
        split(root->left, place, left, &root->left);
        *right = root;
    }
}

static void destroy(order_range *root)
{
    if (root == NULL)
        return;
    destroy(root->left);
    destroy(root->right);
    free(root);
}

bool order_ranges_create(order_ranges *ranges, uint64_t size)
{
    *ranges = (order_ranges){.root = calloc(1, sizeof(order_range)), .seed = 1};
    if (ranges->root != NULL)
        ranges->root->end = size;
    return ranges->root != NULL;
}

void order_ranges_destroy(order_ranges *ranges)
{
    destroy(ranges->root);
    ranges->root = NULL;
}

static bool visit_in(const order_range *root, uint64_t begin, uint64_t end, order_visitor *visit, void *context)
{
    if (root == NULL)
        return true;
    if (begin < root->begin && !visit_in(root->left, begin, end, visit, context))
        return false;
    if (root->begin < end && root->end > begin) {
        order_range part = *root;
        if (part.begin < begin)
            part.begin = begin;
        if (part.end > end)
            part.end = end;
        if (!visit(context, &part))
            return false;
    }
    return end <= root->end || visit_in(root->right, begin, end, visit, context);
}

void order_ranges_visit(const order_ranges *ranges, uint64_t begin, uint64_t end, order_visitor *visit, void *context)
{
    visit_in(ranges->root, begin, end, visit, context);
}

/* Makes `place` a boundary between ranges. */
static bool cut(order_ranges *ranges, uint64_t place)
{
    order_range *at = ranges->root;
    while (at != NULL && (place <= at->begin || place >= at->end))
        at = place <= at->begin ? at->left : at->right;
    if (at == NULL)
        return true;
    order_range *behind = malloc(sizeof *behind);
    if (behind == NULL)
        return false;
    *behind = *at;
    behind->begin = place;
    behind->left = behind->right = NULL;
    behind->priority = random_priority(ranges);
    at->end = place;
    order_range *left, *right;
    split(ranges->root, place, &left, &right);
    ranges->root = merge(merge(left, behind), right);
    return true;
}

static bool add_reader(order_range *range, const order_stamp *stamp)
{
    for (uint32_t i = 0; i < range->reader_count; i++)
        if (range->readers[i].queue == stamp->queue && range->readers[i].stage == stamp->stage) {
            range->readers[i] = *stamp;
            return true;
        }
    if (range->reader_count == ORDER_READERS)
        return false;
    range->readers[range->reader_count++] = *stamp;
    return true;
}

static bool add_reader_to_all(order_range *root, const order_stamp *stamp)
{
    return root == NULL ||
           (add_reader(root, stamp) && add_reader_to_all(root->left, stamp) && add_reader_to_all(root->right, stamp));
}

bool order_ranges_note(order_ranges *ranges, uint64_t begin, uint64_t end, const order_stamp *stamp, bool writes)
{
    if (!cut(ranges, begin) || !cut(ranges, end))
        return false;
    order_range *before, *within, *behind;
    bool good = true;
    split(ranges->root, begin, &before, &within);
    split(within, end, &within, &behind);
    if (!writes) {
        good = add_reader_to_all(within, stamp);
    } else if (within != NULL) { /* one range instead of all */
        destroy(within->left);
        destroy(within->right);
        *within = (order_range){.begin = begin, .end = end, .write = *stamp, .priority = within->priority};
    }
    ranges->root = merge(merge(before, within), behind);
    return good;
}
