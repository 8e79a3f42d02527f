/*
 * Fuzz target: the first packet of a connection, a stranger's very first bytes, with its options.
 */
#include "base/common.h"
#include "wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int add_setting(void *to, const char *name, const char *value)
{
	size_t *settings = to;

	assert(*name && strlen(name) < STARTUP_MAX && strlen(value) < STARTUP_MAX && !strchr(name, '-'));
	++*settings;
	return 0;
}

static void check_session(const struct startup *s)
{
	const char *options = startup_get(s, "options");
	size_t settings = 0;
	char bad[32];

	assert(s->parameter_count <= STARTUP_PARAMETERS_MAX && s->protocol_option_count <= STARTUP_PARAMETERS_MAX);
	for (uint32_t i = 0; i < s->parameter_count; i++) {
		const struct startup_parameter *p = &s->parameters[i];

		assert(p->name.len > 0 && strlen((const char *)p->name.bytes) == p->name.len);
		assert(strlen((const char *)p->value.bytes) == p->value.len);
		assert(startup_get(s, (const char *)p->name.bytes));
	}
	if (options && startup_split_options(options, add_setting, &settings, bad, sizeof(bad)) == 0)
		assert(settings <= strlen(options));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct startup s;
	int r = startup_read(data, size, &s);

	if (r <= 0) {
		assert(r == 0 || r == -EMSGSIZE || r == -EPROTO);
		return 0;
	}
	assert(r >= 8 && r <= (int)STARTUP_MAX && (size_t)r <= size);
	if (s.kind == STARTUP_CANCEL)
		assert(s.cancel_key.len > 0 && s.cancel_key.len <= CANCEL_KEY_MAX);
	if (s.kind == STARTUP_SESSION)
		check_session(&s);
	return 0;
}
