/* Values that an operator gives while the proxy runs; they count more than the file. See config.h. */
#include "config/load_priv.h"
#include "config/value.h"

#define SETTING_TEXT 512u

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

/* As in the file: a plain number of a duration counts seconds, or what its key's name says. */
static const char *with_unit(const struct config_key *key, usec_t unit, const char *value, char text[SETTING_TEXT])
{
	if (key->type != TYPE_duration || !is_number(value))
		return value;
	snprintf(text, SETTING_TEXT, "%s%s", value, unit == USEC_PER_MSEC ? "ms" : "s");
	return text;
}

static void complain(struct loader *l, const struct config_setting *s, const char *why)
{
	report_add(l->report, REPORT_ERROR, "", 0, 0, "%s.%s %s", s->section, s->name, why);
}

static void load_setting(struct loader *l, const struct config_setting *s)
{
	char why[WHY_SIZE], text[SETTING_TEXT];
	usec_t unit;
	const struct config_key *key = key_find(s->section, s->name, &unit);
	int r;

	if (!key || !key->reloads) {
		complain(l, s, key ? "needs a restart" : "is no key");
		return;
	}
	r = value_from_text(key, with_unit(key, unit, s->value, text), &l->config->arena,
			    (char *)l->config + key->offset, why);
	if (r == -ENOMEM)
		l->no_memory = true;
	else if (r < 0)
		complain(l, s, why);
	else
		l->origins[key_index(key)] = (struct config_origin){.kind = ORIGIN_CONSOLE, .section = key->section};
}

void load_settings(struct loader *l, const struct config_setting *settings, uint32_t count)
{
	for (uint32_t i = 0; i < count && !l->no_memory; i++)
		load_setting(l, &settings[i]);
}

int config_load_settings(const struct config *base, const struct config_setting *settings, uint32_t count,
			 const struct config_flags *flags, struct config **ret, struct config_report *report)
{
	int r = load_text((const char *)base->text.bytes, base->text.len, base->path, settings, count, ret, report);

	if (r == 0)
		r = config_apply_flags(*ret, flags, report);
	for (uint32_t i = 0; r == 0 && i < count; i++) {
		usec_t unit;
		const struct config_key *key = key_find(settings[i].section, settings[i].name, &unit);

		if ((*ret)->origins[key_index(key)].kind == ORIGIN_CONSOLE)
			continue;
		report_add(report, REPORT_ERROR, "", 0, 0, "%s.%s was given on the command line, which counts more",
			   settings[i].section, settings[i].name);
		r = -EINVAL;
	}
	return r;
}
