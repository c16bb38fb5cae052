/* Whether two trainings from the same seed agree. Two that differ by one rounding drift apart after some twenty steps, so only
 * the first losses and the final accuracy can tell. */
#include <math.h>

#include "report.h"

static const double loss_bound = 1e-5, accuracy_bound = 0.005;

enum { LAST_LOSSES = 50 };

/* max |Δ| over the first losses, relative to the loss where it is above 1 (its rounding grows with it). NaN only agrees with NaN. */
static double first_gap(const train_run *a, const train_run *b)
{
    double gap = NAN;
    for (int64_t i = 0; i < COMPARED_LOSSES && i < a->steps && i < b->steps; i++) {
        const double x = (double)a->losses[i], y = (double)b->losses[i];
        double d = isnan(x) && isnan(y) ? 0 : fabs(x - y) / fmax(1, fabs(y));
        if (isnan(d))
            d = INFINITY;
        gap = isnan(gap) || d > gap ? d : gap;
    }
    return gap;
}

/* Difference of the mean losses over the last steps that both did. */
static double last_gap(const train_run *a, const train_run *b)
{
    const int64_t end = a->steps < b->steps ? a->steps : b->steps, n = end < LAST_LOSSES ? end : LAST_LOSSES;
    double sum = 0;
    for (int64_t i = end - n; i < end; i++)
        sum += (double)a->losses[i] - (double)b->losses[i];
    return n > 0 ? sum / (double)n : NAN;
}

static void compare(train_run *run, const train_run *reference)
{
    const bool same_length = run->steps == reference->steps && run->test_samples == reference->test_samples;
    run->compared = true;
    run->loss_gap_first = first_gap(run, reference);
    run->loss_gap_last = last_gap(run, reference);
    run->accuracy_gap = run->test_samples > 0 && same_length ? run->test_accuracy - reference->test_accuracy : NAN;
    run->speed_ratio =
        reference->samples_per_second > 0 ? run->samples_per_second / reference->samples_per_second : NAN;
    /* Before an epoch's end accuracies still swing by more than any bound. */
    const bool ripe = run->end == TRAIN_DONE && run->samples >= 50000 && !isnan(run->accuracy_gap);
    run->agrees = !(run->loss_gap_first > loss_bound) && !(ripe && fabs(run->accuracy_gap) > accuracy_bound);
}

bool train_compare(train_run *runs, size_t count)
{
    const train_run *reference = NULL;
    bool agree = true;
    for (size_t i = 0; i < count; i++) {
        runs[i].loss_gap_first = runs[i].loss_gap_last = runs[i].accuracy_gap = runs[i].speed_ratio = NAN;
        if (runs[i].end != TRAIN_DONE && runs[i].end != TRAIN_INTERRUPTED)
            continue;
        if (reference == NULL) {
            reference = &runs[i];
            continue;
        }
        compare(&runs[i], reference);
        agree = agree && runs[i].agrees;
    }
    return agree;
}
