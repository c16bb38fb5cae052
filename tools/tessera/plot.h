/* The loss curves of trainings, as a drawing. */
#ifndef TESSERA_PLOT_H
#define TESSERA_PLOT_H

#include "train.h"

/* Each run that has losses: thin as they came, thick smoothed, and the test: dashed on the way, a large ring at the end. Runs without any are left out. `title` says what is learned,
 * `settings` how, in smaller letters below. */
tsr_status plot_losses(const char *path, const char *title, const char *settings, const train_run *runs, size_t count);

#endif
