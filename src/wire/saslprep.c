/*
 * SASLprep (RFC 4013): gives a password the one form that all clients and servers hash, however it was typed.
 * Map, normalize (NFKC), refuse what is prohibited, check the direction of writing; what is refused, or isn't UTF-8,
 * is used as it is, as PostgreSQL does. ASCII is its own prepared form, so most passwords end before any of that.
 *
 * Passwords come from strangers: every step takes n or n log n. The tables are made at build time.
 */
#include "wire/scram_priv.h"

struct code_range {
	uint32_t first, last;
};

struct class_range {
	uint32_t first, last, class;
};

struct decomposition {
	uint32_t code, at, len; /* in decomposition_pool */
};

struct composition {
	uint32_t first, second, composed;
};

#include "saslprep_tables.gen.h"

/* Code points; cap is what was allocated. */
struct text {
	uint32_t *codes;
	size_t len, cap;
};

/* ------------------------------------------------------------------ tables */

static int compare_range(const void *key, const void *element)
{
	uint32_t code = *(const uint32_t *)key;
	const struct code_range *range = element;

	return code < range->first ? -1 : code > range->last;
}

#define IN_TABLE(code, table) \
	(bsearch(&(uint32_t){code}, table, ARRAY_SIZE(table), sizeof((table)[0]), compare_range) != NULL)

static uint32_t combining_class(uint32_t code)
{
	const struct class_range *found;

	_Static_assert(offsetof(struct class_range, last) == offsetof(struct code_range, last), "compare_range");
	found = bsearch(&code, combining_classes, ARRAY_SIZE(combining_classes), sizeof(*found), compare_range);
	return found ? found->class : 0;
}

static int compare_decomposition(const void *key, const void *element)
{
	uint32_t code = *(const uint32_t *)key, at = ((const struct decomposition *)element)->code;

	return code < at ? -1 : code > at;
}

static const struct decomposition *find_decomposition(uint32_t code)
{
	return bsearch(&code, decompositions, ARRAY_SIZE(decompositions), sizeof(decompositions[0]),
		       compare_decomposition);
}

static int compare_composition(const void *key, const void *element)
{
	const struct composition *a = key, *b = element;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	return a->second < b->second ? -1 : a->second > b->second;
}

/* ------------------------------------------------------------------ Hangul: syllables are made by rule */

enum {
	HANGUL_BASE = 0xac00,
	LEADING_BASE = 0x1100,
	VOWEL_BASE = 0x1161,
	TRAILING_BASE = 0x11a7, /* one before the first: "none" counts */
	LEADING_COUNT = 19,
	VOWEL_COUNT = 21,
	TRAILING_COUNT = 28,
	HANGUL_COUNT = LEADING_COUNT * VOWEL_COUNT * TRAILING_COUNT,
};

static bool is_hangul(uint32_t code)
{
	return code - HANGUL_BASE < HANGUL_COUNT;
}

/* 0: they don't compose. */
static uint32_t compose(uint32_t first, uint32_t second)
{
	const struct composition *found, pair = {.first = first, .second = second};

	if (first - LEADING_BASE < LEADING_COUNT && second - VOWEL_BASE < VOWEL_COUNT)
		return HANGUL_BASE + ((first - LEADING_BASE) * VOWEL_COUNT + (second - VOWEL_BASE)) * TRAILING_COUNT;
	if (is_hangul(first) && (first - HANGUL_BASE) % TRAILING_COUNT == 0 && second > TRAILING_BASE &&
	    second < TRAILING_BASE + TRAILING_COUNT)
		return first + (second - TRAILING_BASE);
	found = bsearch(&pair, compositions, ARRAY_SIZE(compositions), sizeof(pair), compare_composition);
	return found ? found->composed : 0;
}

/* ------------------------------------------------------------------ UTF-8 */

static bool is_ascii(const char *s)
{
	for (; *s; s++)
		if ((uint8_t)*s & 0x80)
			return false;
	return true;
}

/* The character at *s, which moves behind it; UINT32_MAX for what is not the shortest form of one. */
static uint32_t utf8_next(const uint8_t **s)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const uint8_t *p = *s;
	unsigned more = *p < 0x80 ? 0 : *p < 0xc2 ? 4 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : 4;
	uint32_t code = more == 0 ? *p : *p & (0x3fu >> more);

	if (more == 4)
		return UINT32_MAX;
	for (unsigned i = 1; i <= more; i++) {
		if ((p[i] & 0xc0) != 0x80) /* a NUL isn't that, either */
			return UINT32_MAX;
		code = code << 6 | (p[i] & 0x3f);
	}
	*s += more + 1;
	if (code < least[more] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return UINT32_MAX;
	return code;
}

static size_t utf8_put(uint32_t code, char *at)
{
	size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
	static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (size_t i = len; i-- > 1; code >>= 6)
		at[i] = (char)(0x80 | (code & 0x3f));
	at[0] = (char)(lead[len] | code);
	return len;
}

static char *text_to_utf8(const struct text *t)
{
	char *s = malloc(t->len * 4 + 1);
	size_t len = 0;

	if (!s)
		return NULL;
	for (size_t i = 0; i < t->len; i++)
		len += utf8_put(t->codes[i], s + len);
	s[len] = 0;
	return s;
}

/* ------------------------------------------------------------------ the steps */

static int text_init(struct text *t, size_t cap)
{
	*t = (struct text){.codes = malloc(MAX(cap, (size_t)1) * sizeof(uint32_t)), .cap = cap};
	return t->codes ? 0 : -ENOMEM;
}

static void text_free(struct text *t)
{
	if (t->codes)
		wipe(t->codes, t->cap * sizeof(uint32_t));
	free(t->codes);
}

static void text_add(struct text *t, uint32_t code)
{
	assert(t->len < t->cap);
	t->codes[t->len++] = code;
}

/* Reads and maps: odd spaces to one kind, what nobody sees to nothing. -EINVAL: not UTF-8. */
static int read_and_map(const char *password, struct text *ret)
{
	const uint8_t *s = (const uint8_t *)password;
	int r = text_init(ret, strlen(password));

	while (r == 0 && *s) {
		uint32_t code = utf8_next(&s);

		if (code == UINT32_MAX)
			r = -EINVAL;
		else if (IN_TABLE(code, spaces))
			text_add(ret, ' ');
		else if (!IN_TABLE(code, mapped_to_nothing))
			text_add(ret, code);
	}
	return r;
}

static size_t decomposed_len(uint32_t code)
{
	const struct decomposition *found;

	if (is_hangul(code))
		return (code - HANGUL_BASE) % TRAILING_COUNT ? 3 : 2;
	found = find_decomposition(code);
	return found ? found->len : 1;
}

static void add_decomposed(struct text *t, uint32_t code)
{
	const struct decomposition *found;

	if (is_hangul(code)) {
		uint32_t index = code - HANGUL_BASE;

		text_add(t, LEADING_BASE + index / (VOWEL_COUNT * TRAILING_COUNT));
		text_add(t, VOWEL_BASE + index / TRAILING_COUNT % VOWEL_COUNT);
		if (index % TRAILING_COUNT)
			text_add(t, TRAILING_BASE + index % TRAILING_COUNT);
		return;
	}
	found = find_decomposition(code);
	if (!found)
		text_add(t, code);
	for (uint32_t i = 0; found && i < found->len; i++)
		text_add(t, decomposition_pool[found->at + i]);
}

static int decompose(const struct text *from, struct text *ret)
{
	size_t len = 0;
	int r;

	for (size_t i = 0; i < from->len; i++)
		len += decomposed_len(from->codes[i]);
	r = text_init(ret, len);
	for (size_t i = 0; r == 0 && i < from->len; i++)
		add_decomposed(ret, from->codes[i]);
	return r;
}

static int compare_uint64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * Sorts each run of combining marks by class; those of one class keep their order. A mark is a number for that: class,
 * place in the run, code, so that a run of many thousands costs no more than it must.
 */
static int order_marks(struct text *t)
{
	uint64_t *marks = malloc(MAX(t->len, (size_t)1) * sizeof(uint64_t));

	if (!marks)
		return -ENOMEM;
	for (size_t i = 0; i < t->len; i++) {
		size_t count = 0;
		uint32_t class;

		while (i + count < t->len && (class = combining_class(t->codes[i + count])) != 0) {
			marks[count] = (uint64_t) class << 56 | (uint64_t)count << 24 | t->codes[i + count];
			count++;
		}
		if (count > 1)
			qsort(marks, count, sizeof(marks[0]), compare_uint64);
		for (size_t k = 0; k < count; k++)
			t->codes[i + k] = (uint32_t)(marks[k] & 0xffffff);
		i += count;
	}
	wipe(marks, t->len * sizeof(uint64_t));
	free(marks);
	return 0;
}

/* A mark joins its starter unless one of its own class or higher stands between. In place. */
static void compose_all(struct text *t)
{
	size_t starter = SIZE_MAX, len = 0;
	uint32_t last_class = 0;

	for (size_t i = 0; i < t->len; i++) {
		uint32_t code = t->codes[i], class = combining_class(code), composed = 0;
		bool adjacent = len > 0 && starter == len - 1;

		if (starter != SIZE_MAX && (adjacent || last_class < class))
			composed = compose(t->codes[starter], code);
		if (composed) {
			t->codes[starter] = composed;
			continue;
		}
		if (class == 0)
			starter = len;
		last_class = class;
		t->codes[len++] = code;
	}
	t->len = len;
}

static bool is_allowed(const struct text *t)
{
	bool rtl = false, ltr = false;

	if (t->len == 0)
		return false;
	for (size_t i = 0; i < t->len; i++) {
		if (IN_TABLE(t->codes[i], prohibited))
			return false;
		rtl |= IN_TABLE(t->codes[i], right_to_left);
		ltr |= IN_TABLE(t->codes[i], left_to_right);
	}
	return !rtl || (!ltr && IN_TABLE(t->codes[0], right_to_left) && IN_TABLE(t->codes[t->len - 1], right_to_left));
}

char *saslprep(const char *password)
{
	struct text mapped = {0}, normal = {0};
	char *prepared = NULL;
	int r;

	if (is_ascii(password))
		return strdup(password);
	r = read_and_map(password, &mapped);
	if (r == 0)
		r = decompose(&mapped, &normal);
	if (r == 0)
		r = order_marks(&normal);
	if (r == 0) {
		compose_all(&normal);
		prepared = is_allowed(&normal) ? text_to_utf8(&normal) : strdup(password);
	} else if (r == -EINVAL) {
		prepared = strdup(password);
	}
	text_free(&mapped);
	text_free(&normal);
	return prepared;
}
