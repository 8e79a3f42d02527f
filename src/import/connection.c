/* See connection.h. */
#include "import/connection.h"

static const char *skip_blanks(const char *at)
{
	return at + strspn(at, " \t\n\r");
}

/* Behind the opening quote. 1, -EINVAL (it has no end), -ENOMEM. */
static int take_quoted(const char **at, struct arena *arena, const char **ret)
{
	char *copy = arena_alloc(arena, strlen(*at) + 1), *to = copy;
	const char *from = *at;

	if (!copy)
		return -ENOMEM;
	for (;; from++) {
		if (!*from)
			return -EINVAL;
		if (*from == '\'' && *++from != '\'')
			break;
		*to++ = *from;
	}
	*to = 0;
	*at = from;
	*ret = copy;
	return 1;
}

int pair_next(const char **at, struct arena *arena, struct pair *ret)
{
	const char *key, *from = skip_blanks(*at);
	size_t len = strcspn(from, " \t=");
	int r = 1;

	*at = from;
	if (!*from)
		return 0;
	key = arena_strndup(arena, from, len);
	if (!key)
		return -ENOMEM;
	from = skip_blanks(from + len);
	if (len == 0 || *from != '=')
		return -EINVAL;
	from = skip_blanks(from + 1);
	ret->key = key;
	if (*from == '\'') {
		from++;
		r = take_quoted(&from, arena, &ret->value);
	} else {
		len = strcspn(from, " ");
		ret->value = arena_strndup(arena, from, len);
		from += len;
		r = ret->value ? 1 : -ENOMEM;
	}
	if (r == 1 && !ret->value[0])
		r = -EINVAL; /* PgBouncer takes no empty value */
	*at = from;
	return r;
}
