/* Which tokens a language model speaks, as the command line and saved models name them. */
#ifndef TESSERA_VOCABULARY_H
#define TESSERA_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>

#include "tessera/status.h"
#include "tessera/tokenizer.h"

/* "bytes"; "bpe:N", learnt from the text to N tokens; else a folder with vocab.json and merges.txt. NULL with the thread's error. */
tsr_tokenizer *vocabulary_open(const char *tokens, const char *text_path);

/* What a model saved in `path` says of its tokens, for its metadata "gpt.tokens": a learnt vocabulary is saved beside it, in the folder `path`.tokens. */
tsr_status vocabulary_save(const tsr_tokenizer *tokenizer, const char *tokens, const char *path, char *note,
                           size_t size);

/* The tokens of the model in the file `path`: as `note` (its metadata; may be NULL) says, else of the files beside it, else bytes, if the model has 256. */
tsr_tokenizer *vocabulary_of_model(const char *path, const char *note, int64_t tokens);

#endif
