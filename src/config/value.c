/* See value.h. */
#include "config/value.h"
#include "config/units.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define LIST_MAX 1024u

static int refuse(char why[WHY_SIZE], const char *format, ...) PRINTF_LIKE(2, 3);

static int refuse(char why[WHY_SIZE], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why, WHY_SIZE, format, args);
	va_end(args);
	return -EINVAL;
}

static int refuse_type(const struct config_key *key, const struct toml_value *v, char why[WHY_SIZE])
{
	struct buf what = BUF_INIT(WHY_SIZE / 2);

	value_describe(key, &what);
	refuse(why, "must be %s, not %s", buf_cstr(&what), toml_type_name(v->type));
	buf_free(&what);
	return -EINVAL;
}

static bool has_bounds(const struct config_key *key)
{
	return key->min != 0 || key->max != 0;
}

void value_describe(const struct config_key *key, struct buf *out)
{
	char low[DURATION_TEXT], high[DURATION_TEXT];
	bool first = true;

	switch (key->type) {
	case TYPE_bool:
		buf_add_str(out, "true or false");
		return;
	case TYPE_uint:
		buf_printf(out, "a whole number from %" PRIu64 " to %" PRIu64, key->min,
			   has_bounds(key) ? key->max : UINT32_MAX);
		return;
	case TYPE_size:
		buf_add_str(out, "a size");
		if (has_bounds(key))
			buf_printf(out, " from %s to %s", size_print(key->min, low), size_print(key->max, high));
		return;
	case TYPE_duration:
		buf_add_str(out, "a duration");
		if (has_bounds(key))
			buf_printf(out, " from %s to %s", duration_print(key->min * USEC_PER_SEC, low),
				   duration_print(key->max * USEC_PER_SEC, high));
		return;
	case TYPE_ratio:
		buf_add_str(out, "a number from 0 to 1");
		return;
	case TYPE_string:
	case TYPE_secret:
		buf_add_str(out, "a string");
		return;
	case TYPE_address:
		buf_add_str(out, "host:port, [v6]:port or unix:/path");
		return;
	case TYPE_strings:
		buf_add_str(out, "a string or an array of strings");
		return;
	case TYPE_addresses:
		buf_add_str(out, "an address (host:port, [v6]:port, unix:/path) or an array of them");
		return;
	default:
		break;
	}
	for (uint32_t i = 0; i < config_enum_count; i++) {
		if (config_enums[i].type != key->type || config_enums[i].alias)
			continue;
		buf_printf(out, "%s\"%s\"", first ? "one of " : ", ", config_enums[i].text);
		first = false;
	}
}

static int refuse_value(const struct config_key *key, char why[WHY_SIZE])
{
	struct buf what = BUF_INIT(WHY_SIZE - 16);

	value_describe(key, &what);
	refuse(why, "must be %s", buf_cstr(&what));
	buf_free(&what);
	return -EINVAL;
}

static int store_number(const struct config_key *key, uint64_t n, void *field, char why[WHY_SIZE])
{
	uint64_t factor = key->type == TYPE_duration ? USEC_PER_SEC : 1;
	uint64_t max = key->type == TYPE_uint ? UINT32_MAX : UINT64_MAX;

	if (has_bounds(key) && (n < key->min * factor || n > key->max * factor))
		return refuse_value(key, why);
	if (n > max)
		return refuse_value(key, why);
	if (key->type == TYPE_uint)
		*(uint32_t *)field = (uint32_t)n;
	else
		*(uint64_t *)field = n;
	return 0;
}

static int store_duration(const struct config_key *key, int r, usec_t duration, void *field, char why[WHY_SIZE])
{
	if (r < 0)
		return refuse(why, r == -ERANGE
					   ? "is out of range"
					   : "must be a duration such as 5s, 250ms, 10min, 1h or a number of seconds");
	return store_number(key, duration, field, why);
}

static int store_enum(const struct config_key *key, const char *text, void *field, char why[WHY_SIZE])
{
	for (uint32_t i = 0; i < config_enum_count; i++) {
		if (config_enums[i].type == key->type && strcasecmp(config_enums[i].text, text) == 0) {
			*(int *)field = config_enums[i].value;
			return 0;
		}
	}
	return refuse_value(key, why);
}

static int check_address(const struct config_key *key, const char *text, char why[WHY_SIZE])
{
	char host[HOST_MAX + 1];
	uint32_t port;

	return address_split(text, host, &port) < 0 ? refuse_value(key, why) : 0;
}

static int store_ratio(const struct config_key *key, double ratio, double *field, char why[WHY_SIZE])
{
	if (!(ratio >= 0 && ratio <= 1))
		return refuse_value(key, why);
	*field = ratio;
	return 0;
}

static int ratio_from_text(const struct config_key *key, const char *text, double *field, char why[WHY_SIZE])
{
	char *end;
	double ratio = strtod(text, &end);

	if (*text == 0) {
		*field = RATIO_UNSAID;
		return 0;
	}
	return store_ratio(key, *end == 0 && strspn(text, "0123456789.e-") == strlen(text) ? ratio : -1, field, why);
}

static int ratio_from_toml(const struct config_key *key, const struct toml_value *v, double *field, char why[WHY_SIZE])
{
	switch (v->type) {
	case TOML_INTEGER:
		return store_ratio(key, (double)v->integer, field, why);
	case TOML_FLOAT:
		return store_ratio(key, v->real, field, why);
	case TOML_STRING:
		return ratio_from_text(key, v->string.text, field, why);
	default:
		return refuse_type(key, v, why);
	}
}

static int keep_string(const char *text, struct arena *arena, const char **ret)
{
	const char *copy = arena_strdup(arena, text);

	if (!copy)
		return -ENOMEM;
	*ret = copy;
	return 0;
}

static int store_string(const struct config_key *key, const char *text, struct arena *arena, void *field,
			char why[WHY_SIZE])
{
	if (key->type == TYPE_address && text[0] && check_address(key, text, why) < 0)
		return -EINVAL;
	return keep_string(text, arena, field);
}

static int store_strings(const struct config_key *key, const char *const *texts, uint32_t count, struct arena *arena,
			 struct config_strings *field, char why[WHY_SIZE])
{
	const char **items;
	int r = 0;

	if (key->type == TYPE_addresses && count == 0)
		return refuse(why, "must hold at least one address");
	items = arena_alloc(arena, MAX(count, 1u) * sizeof(*items));
	if (!items)
		return -ENOMEM;
	for (uint32_t i = 0; i < count && r == 0; i++) {
		if (key->type == TYPE_addresses)
			r = check_address(key, texts[i], why);
		if (r == 0)
			r = keep_string(texts[i], arena, &items[i]);
	}
	if (r == 0)
		*field = (struct config_strings){items, count};
	return r;
}

static int strings_from_toml(const struct config_key *key, const struct toml_value *v, struct arena *arena, void *field,
			     char why[WHY_SIZE])
{
	const struct toml_value *items = v->type == TOML_ARRAY ? v->array.items : v;
	uint32_t count = v->type == TOML_ARRAY ? v->array.count : 1;
	const char *texts[LIST_MAX];

	if (count > LIST_MAX)
		return refuse(why, "must not hold more than %u strings", LIST_MAX);
	if (v->type == TOML_STRING && v->string.len == 0 && key->type == TYPE_strings)
		count = 0; /* "" is the empty list, as in the table's defaults */
	for (uint32_t i = 0; i < count; i++) {
		if (items[i].type != TOML_STRING)
			return refuse_type(key, &items[i], why);
		if (strlen(items[i].string.text) != items[i].string.len)
			return refuse(why, "must not hold a NUL character");
		texts[i] = items[i].string.text;
	}
	return store_strings(key, texts, count, arena, field, why);
}

static int number_from_toml(const struct config_key *key, const struct toml_value *v, usec_t unit, void *field,
			    char why[WHY_SIZE])
{
	usec_t duration = 0;
	int r;

	if (key->type == TYPE_duration && (v->type == TOML_INTEGER || v->type == TOML_FLOAT)) {
		r = duration_from_number(v->type == TOML_INTEGER ? (double)v->integer : v->real, unit, &duration);
		return store_duration(key, r, duration, field, why);
	}
	if (v->type != TOML_INTEGER)
		return refuse_type(key, v, why);
	if (v->integer < 0)
		return refuse_value(key, why);
	return store_number(key, (uint64_t)v->integer, field, why);
}

static int number_from_text(const struct config_key *key, const char *text, usec_t unit, void *field,
			    char why[WHY_SIZE])
{
	uint64_t n = 0;
	int r;

	if (key->type == TYPE_duration) {
		r = duration_parse(text, unit, &n);
		return store_duration(key, r, n, field, why);
	}
	r = size_parse(text, &n);
	if (r < 0 || (key->type == TYPE_uint && strspn(text, "0123456789") != strlen(text)))
		return refuse_value(key, why);
	return store_number(key, n, field, why);
}

int value_from_toml(const struct config_key *key, const struct toml_value *v, usec_t unit, struct arena *arena,
		    void *field, char why[WHY_SIZE])
{
	if (v->type == TOML_STRING && strlen(v->string.text) != v->string.len)
		return refuse(why, "must not hold a NUL character");
	switch (key->type) {
	case TYPE_bool:
		if (v->type != TOML_BOOLEAN)
			return refuse_type(key, v, why);
		*(bool *)field = v->boolean;
		return 0;
	case TYPE_size:
	case TYPE_duration:
		if (v->type == TOML_STRING)
			return number_from_text(key, v->string.text, unit, field, why);
		return number_from_toml(key, v, unit, field, why);
	case TYPE_uint:
		return number_from_toml(key, v, unit, field, why);
	case TYPE_ratio:
		return ratio_from_toml(key, v, field, why);
	case TYPE_strings:
	case TYPE_addresses:
		return strings_from_toml(key, v, arena, field, why);
	default:
		break;
	}
	if (type_is_enum(key->type) && v->type == TOML_BOOLEAN)
		return store_enum(key, v->boolean ? "true" : "false", field, why);
	if (v->type != TOML_STRING)
		return refuse_type(key, v, why);
	if (type_is_enum(key->type))
		return store_enum(key, v->string.text, field, why);
	return store_string(key, v->string.text, arena, field, why);
}

static int strings_from_text(const struct config_key *key, const char *text, struct arena *arena, void *field,
			     char why[WHY_SIZE])
{
	char *copy = arena_strdup(arena, text), *rest = copy;
	const char *texts[LIST_MAX];
	uint32_t count = 0;

	if (!copy)
		return -ENOMEM;
	for (char *item; (item = strsep(&rest, ",")) != NULL;) {
		if (!item[0])
			continue;
		if (count == LIST_MAX)
			return refuse(why, "must not hold more than %u strings", LIST_MAX);
		texts[count++] = item;
	}
	return store_strings(key, texts, count, arena, field, why);
}

int value_from_text(const struct config_key *key, const char *text, struct arena *arena, void *field,
		    char why[WHY_SIZE])
{
	switch (key->type) {
	case TYPE_bool:
		if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
			return refuse_value(key, why);
		*(bool *)field = text[0] == 't';
		return 0;
	case TYPE_uint:
	case TYPE_size:
	case TYPE_duration:
		return number_from_text(key, text, USEC_PER_SEC, field, why);
	case TYPE_ratio:
		return ratio_from_text(key, text, field, why);
	case TYPE_strings:
	case TYPE_addresses:
		return strings_from_text(key, text, arena, field, why);
	default:
		break;
	}
	return type_is_enum(key->type) ? store_enum(key, text, field, why) : store_string(key, text, arena, field, why);
}

void value_print_string(const char *text, struct buf *out)
{
	buf_add_char(out, '"');
	for (const char *s = text; *s; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c == '\n')
			buf_add_str(out, "\\n");
		else if (c == '\t')
			buf_add_str(out, "\\t");
		else if (c < 0x20 || c == 0x7f)
			buf_printf(out, "\\u%04X", c);
		else
			buf_add_char(out, (char)c);
	}
	buf_add_char(out, '"');
}

static void print_strings(const struct config_strings *list, struct buf *out)
{
	if (list->count == 1) {
		value_print_string(list->items[0], out);
		return;
	}
	buf_add_char(out, '[');
	for (uint32_t i = 0; i < list->count; i++) {
		if (i)
			buf_add_str(out, ", ");
		value_print_string(list->items[i], out);
	}
	buf_add_char(out, ']');
}

static const char *enum_text(enum config_type type, int value)
{
	for (uint32_t i = 0; i < config_enum_count; i++)
		if (config_enums[i].type == type && config_enums[i].value == value && !config_enums[i].alias)
			return config_enums[i].text;
	return "";
}

void value_print(const struct config_key *key, const void *field, bool show_secrets, struct buf *out)
{
	char text[DURATION_TEXT];
	const char *string;

	switch (key->type) {
	case TYPE_bool:
		buf_add_str(out, *(const bool *)field ? "true" : "false");
		return;
	case TYPE_uint:
		buf_printf(out, "%" PRIu32, *(const uint32_t *)field);
		return;
	case TYPE_size:
		value_print_string(size_print(*(const uint64_t *)field, text), out);
		return;
	case TYPE_duration:
		value_print_string(duration_print(*(const usec_t *)field, text), out);
		return;
	case TYPE_ratio:
		if (*(const double *)field < 0)
			buf_add_str(out, "\"\"");
		else
			buf_printf(out, "%.9g", *(const double *)field);
		return;
	case TYPE_secret:
		string = *(const char *const *)field;
		value_print_string(string[0] && !show_secrets ? "***" : string, out);
		return;
	case TYPE_string:
	case TYPE_address:
		value_print_string(*(const char *const *)field, out);
		return;
	case TYPE_strings:
	case TYPE_addresses:
		print_strings(field, out);
		return;
	default:
		value_print_string(enum_text(key->type, *(const int *)field), out);
		return;
	}
}

bool value_equal(const struct config_key *key, const void *a, const void *b)
{
	struct buf a_text = BUF_INIT(SIZE_MAX / 2), b_text = BUF_INIT(SIZE_MAX / 2);
	bool equal;

	value_print(key, a, /* show_secrets= */ true, &a_text);
	value_print(key, b, /* show_secrets= */ true, &b_text);
	equal = !a_text.failed && !b_text.failed && a_text.len == b_text.len &&
		memcmp(a_text.bytes, b_text.bytes, a_text.len) == 0;
	buf_free_secret(&a_text);
	buf_free_secret(&b_text);
	return equal;
}
