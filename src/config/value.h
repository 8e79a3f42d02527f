/*
 * One value of a key: from TOML or from text into the field's C type, with the checks of its row; and back to text.
 * Shared inside config/, and with import/.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include "base/buf.h"
#include "config/keys.h"
#include "config/toml.h"

#define WHY_SIZE 256u

/* Into *field (of the key's C type); strings are kept in the arena. 0, -EINVAL (why: "must be ..."), -ENOMEM. */
int value_from_toml(const struct config_key *key, const struct toml_value *v, usec_t unit, struct arena *arena,
		    void *field, char why[WHY_SIZE]) MUST_USE;
/* The same from a text: defaults, the command line, the environment. Lists are separated by commas. */
int value_from_text(const struct config_key *key, const char *text, struct arena *arena, void *field,
		    char why[WHY_SIZE]) MUST_USE;

/* As a TOML value; secrets as "***" when show_secrets is false. */
void value_print(const struct config_key *key, const void *field, bool show_secrets, struct buf *out);
void value_print_string(const char *text, struct buf *out); /* a TOML basic string with its quotes */
bool value_equal(const struct config_key *key, const void *a, const void *b);
/* "whole number from 1 to 100", "duration", "one of ..." */
void value_describe(const struct config_key *key, struct buf *out);

#endif
