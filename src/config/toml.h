/*
 * A TOML 1.0 document as a tree of plain values with their places. A small C interface over toml++ (toml.cc, the one
 * C++ file of the tree): nothing of toml++ is visible here, and none of its exceptions or assertions gets out.
 */
#ifndef CONFIG_TOML_H
#define CONFIG_TOML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct arena;

#define TOML_BYTES_MAX     (16u << 20)
#define TOML_DEPTH_MAX     32u /* of values in values */
#define TOML_KEY_PARTS_MAX 32u /* of a dotted key */

enum toml_type {
	TOML_TABLE,
	TOML_ARRAY,
	TOML_STRING,
	TOML_INTEGER,
	TOML_FLOAT,
	TOML_BOOLEAN,
	TOML_DATE, /* any of the date and time types; the value is not kept */
};

struct toml_value {
	enum toml_type type;
	uint32_t line, column; /* from 1 */
	union {
		struct {
			const struct toml_member *members; /* in the order of the file */
			uint32_t count;
		} table;
		struct {
			const struct toml_value *items;
			uint32_t count;
		} array;
		struct {
			const char *text; /* NUL-terminated, and may hold NULs */
			size_t len;
		} string;
		int64_t integer;
		double real;
		bool boolean;
	};
};

struct toml_member {
	const char *key; /* a key that holds a NUL is refused */
	uint32_t line, column;
	struct toml_value value;
};

struct toml_error {
	uint32_t line, column;
	char text[256];
};

/* The document's root table, in the arena. 0, -EINVAL (*error says where and why), -ENOMEM. */
int toml_parse(const char *text, size_t len, struct arena *arena, const struct toml_value **ret_root,
	       struct toml_error *error);

const struct toml_value *toml_get(const struct toml_value *table, const char *key); /* NULL: none */
/* "a string", "a table" ... for messages */
const char *toml_type_name(enum toml_type type);

#ifdef __cplusplus
}
#endif

#endif
