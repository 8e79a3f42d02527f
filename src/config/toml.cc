/*
 * See toml.h. The one C++ file: exceptions are on here so that toml++'s assertions (which bad input can reach) can be
 * thrown, and are caught before they reach C.
 *
 * toml++ bounds the nesting of values but not the parts of a dotted key, and it destroys its tree by recursion: deep
 * keys are refused before it sees them (key_parts_are_few).
 */
#include <cstdlib>
#include <new>

namespace
{
struct assertion_failed {
};
[[noreturn]] void fail_assertion()
{
	throw assertion_failed();
}
} // namespace

#undef NDEBUG /* with it toml++ would take its assertions for granted */
#define TOML_ASSERT(condition) \
	do { \
		if (!(condition)) \
			fail_assertion(); \
	} while (false)
#define TOML_HEADER_ONLY       1
#define TOML_EXCEPTIONS        1
#define TOML_ENABLE_FORMATTERS 0
#define TOML_MAX_NESTED_VALUES 32
#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "config/toml.h"

/* From base/arena.h, which isn't written for C++. */
extern "C" void *arena_alloc(struct arena *a, size_t size);

static_assert(TOML_MAX_NESTED_VALUES == TOML_DEPTH_MAX, "the two bounds are one");

namespace
{
/* A tree may be this deep: values in values, each behind a key with so many parts. */
constexpr uint32_t tree_depth_max = TOML_DEPTH_MAX * TOML_KEY_PARTS_MAX + TOML_KEY_PARTS_MAX;

void set_error(toml_error *error, uint32_t line, uint32_t column, std::string_view text)
{
	error->line = line;
	error->column = column;
	snprintf(error->text, sizeof(error->text), "%.*s", static_cast<int>(std::min<size_t>(text.size(), 250)),
		 text.data());
}

/*
 * Walks over the text far enough to know what is inside strings and comments, and counts the dots outside of them
 * since anything that can't be inside a key. Where the text is no TOML this may be wrong, but only behind the place
 * where the parser stops.
 */
class key_walk
{
	std::string_view text;
	size_t at = 0;
	uint32_t line = 1, dots = 0;

	bool starts_with(const char *what) const
	{
		return text.compare(at, strlen(what), what) == 0;
	}

	void skip_string(char quote)
	{
		const char many[] = {quote, quote, quote, 0};
		const bool multi = starts_with(many);

		at += multi ? 3 : 1;
		while (at < text.size()) {
			const char c = text[at];

			if (c == '\\' && quote == '"' && at + 1 < text.size() && text[at + 1] != '\n') {
				at += 2;
			} else if (c == '\n') {
				if (!multi)
					return;
				line++;
				at++;
			} else if (c == quote && (!multi || starts_with(many))) {
				at += multi ? 3 : 1;
				/* one or two quotes may stand before the closing three */
				while (multi && at < text.size() && text[at] == quote)
					at++;
				return;
			} else {
				at++;
			}
		}
	}

      public:
	explicit key_walk(std::string_view from) : text(from)
	{
	}

	/* The line of the first key with too many parts, or 0. */
	uint32_t find_long_key()
	{
		while (at < text.size()) {
			switch (text[at]) {
			case '"':
			case '\'':
				skip_string(text[at]);
				continue;
			case '#':
				at = std::min(text.find('\n', at), text.size());
				continue;
			case '\n':
				line++;
				[[fallthrough]];
			case '=':
			case ',':
			case '{':
			case '[':
				dots = 0;
				break;
			case '.':
				if (++dots >= TOML_KEY_PARTS_MAX)
					return line;
				break;
			default:
				break;
			}
			at++;
		}
		return 0;
	}
};

class converter
{
	struct arena *arena;

	template <typename T> T *take(size_t count)
	{
		void *memory = arena_alloc(arena, std::max<size_t>(count, 1) * sizeof(T));

		if (!memory)
			throw std::bad_alloc();
		memset(memory, 0, std::max<size_t>(count, 1) * sizeof(T));
		return static_cast<T *>(memory);
	}

	const char *copy(std::string_view text)
	{
		char *to = take<char>(text.size() + 1);

		memcpy(to, text.data(), text.size());
		return to;
	}

	void convert_table(const toml::table &from, toml_value &to, uint32_t depth)
	{
		toml_member *members = take<toml_member>(from.size());
		size_t n = 0;

		for (auto &&[key, node] : from) {
			toml_member &m = members[n++];

			m.key = copy(key.str());
			if (strlen(m.key) != key.str().size())
				throw toml::parse_error("a key must not hold a NUL character", key.source());
			m.line = key.source().begin.line;
			m.column = key.source().begin.column;
			convert(node, m.value, depth + 1);
		}
		std::stable_sort(members, members + n, [](const toml_member &a, const toml_member &b) {
			return a.line != b.line ? a.line < b.line : a.column < b.column;
		});
		to.type = TOML_TABLE;
		to.table.members = members;
		to.table.count = static_cast<uint32_t>(n);
	}

	void convert_array(const toml::array &from, toml_value &to, uint32_t depth)
	{
		toml_value *items = take<toml_value>(from.size());
		size_t n = 0;

		for (auto &&node : from)
			convert(node, items[n++], depth + 1);
		to.type = TOML_ARRAY;
		to.array.items = items;
		to.array.count = static_cast<uint32_t>(n);
	}

      public:
	explicit converter(struct arena *to) : arena(to)
	{
	}

	void convert(const toml::node &from, toml_value &to, uint32_t depth)
	{
		if (depth > tree_depth_max)
			throw toml::parse_error("nested too deeply", from.source());
		if (auto *table = from.as_table()) {
			convert_table(*table, to, depth);
		} else if (auto *array = from.as_array()) {
			convert_array(*array, to, depth);
		} else if (auto *string = from.as_string()) {
			to.type = TOML_STRING;
			to.string.text = copy(string->get());
			to.string.len = string->get().size();
		} else if (auto *integer = from.as_integer()) {
			to.type = TOML_INTEGER;
			to.integer = integer->get();
		} else if (auto *real = from.as_floating_point()) {
			to.type = TOML_FLOAT;
			to.real = real->get();
		} else if (auto *boolean = from.as_boolean()) {
			to.type = TOML_BOOLEAN;
			to.boolean = boolean->get();
		} else {
			to.type = TOML_DATE;
		}
		to.line = from.source().begin.line;
		to.column = from.source().begin.column;
	}
};
} // namespace

extern "C" int toml_parse(const char *text, size_t len, struct arena *arena, const struct toml_value **ret_root,
			  struct toml_error *error)
{
	const std::string_view view(text, len);

	set_error(error, 0, 0, "");
	if (len > TOML_BYTES_MAX) {
		set_error(error, 0, 0, "the file is larger than 16 MB");
		return -EINVAL;
	}
	if (const uint32_t line = key_walk(view).find_long_key()) {
		set_error(error, line, 0, "a key with too many dots");
		return -EINVAL;
	}
	try {
		toml_value *root = static_cast<toml_value *>(arena_alloc(arena, sizeof(*root)));

		if (!root)
			return -ENOMEM;
		memset(root, 0, sizeof(*root));
		const toml::table table = toml::parse(view);
		converter(arena).convert(table, *root, 0);
		*ret_root = root;
		return 0;
	} catch (const toml::parse_error &e) {
		set_error(error, e.source().begin.line, e.source().begin.column, e.description());
		return -EINVAL;
	} catch (const std::bad_alloc &) {
		return -ENOMEM;
	} catch (...) { /* assertion_failed, and whatever else: the text is at fault */
		set_error(error, 0, 0, "this is no TOML (a '[' without its ']'?)");
		return -EINVAL;
	}
}

extern "C" const struct toml_value *toml_get(const struct toml_value *table, const char *key)
{
	for (uint32_t i = 0; table->type == TOML_TABLE && i < table->table.count; i++)
		if (strcmp(table->table.members[i].key, key) == 0)
			return &table->table.members[i].value;
	return nullptr;
}

extern "C" const char *toml_type_name(enum toml_type type)
{
	static const char *const names[] = {"a table",  "an array",      "a string", "an integer",
					    "a number", "true or false", "a date"};

	return names[type];
}
