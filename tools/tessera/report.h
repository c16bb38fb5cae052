/* What `tessera train` found: a table for people, JSON for programs. */
#ifndef TESSERA_REPORT_H
#define TESSERA_REPORT_H

#include <stddef.h>
#include <stdio.h>

#include "base/json.h"
#include "train.h"

/* Compares each run with the first that ended well. The bounds are in docs/json.md. Returns whether all that could be
 * compared agree. */
bool train_compare(train_run *runs, size_t count);

/* One line on a run that has just ended. */
void report_run(const train_run *run, FILE *out);

/* The comparison of several. */
void report_table(const train_run *runs, size_t count, FILE *out);

/* Where results are to go, the value of --`flag`: found out before the work, so that it is not lost. "-" is standard output. False,
 * with the complaint printed, where it cannot be written. NULL: nowhere, which is fine. */
bool report_writable(const char *flag, const char *path);

/* One run as an object, several under "runs". */
void report_runs(json *j, const train_settings *settings, const train_run *runs, size_t count);

/* The document to where it is to go. False, with the complaint printed, on failure. */
bool report_write(json *j, const char *path);
bool report_write_text(const text *t, const char *path);

#endif
