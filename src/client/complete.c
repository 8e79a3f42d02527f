/*
 * Completion for bash and zsh. The shells' functions only ask the program itself what a word may become, so that they
 * never say anything else than it understands; names of nodes and databases, and PIDs, are asked of the proxy, for a
 * second at most. What a shell would take apart or carry out is not offered.
 */
#include "client/client_priv.h"

#define LIVE_TIMEOUT USEC_PER_SEC

static const char bash_script[] =
	"# bash completion for heliosdb-proxy; written by: heliosdb-proxy completion bash\n"
	"_heliosdb_proxy()\n"
	"{\n"
	"\tlocal line=${COMP_LINE:0:COMP_POINT} current=${COMP_WORDS[COMP_CWORD]} whole candidate\n"
	"\tlocal -a words\n"
	"\tread -ra words <<<\"$line\"\n"
	"\t[[ $line == *[[:space:]] ]] && words+=(\"\")\n"
	"\twhole=${words[${#words[@]}-1]}\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS=$'\\t' read -r candidate _; do\n"
	"\t\tif [[ $candidate == '<files>' ]]; then\n"
	"\t\t\tcompopt -o filenames 2>/dev/null\n"
	"\t\t\tmapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
	"\t\t\treturn\n"
	"\t\tfi\n"
	"\t\t[[ $candidate == *= ]] && compopt -o nospace 2>/dev/null\n"
	"\t\t# bash takes words apart at : and =, and wants what is behind them\n"
	"\t\tif [[ $current == [:=] ]]; then\n"
	"\t\t\tCOMPREPLY+=(\"${candidate:${#whole}}\")\n"
	"\t\telse\n"
	"\t\t\tCOMPREPLY+=(\"${candidate:${#whole}-${#current}}\")\n"
	"\t\tfi\n"
	"\tdone < <(\"${COMP_WORDS[0]}\" complete -- \"${words[@]:1}\" 2>/dev/null)\n"
	"}\n"
	"complete -F _heliosdb_proxy heliosdb-proxy\n";

static const char zsh_script[] =
	"#compdef heliosdb-proxy\n"
	"# zsh completion for heliosdb-proxy; written by: heliosdb-proxy completion zsh\n"
	"_heliosdb-proxy()\n"
	"{\n"
	"\tlocal line candidate\n"
	"\tlocal -a candidates open shown shown_open\n"
	"\tfor line in ${(f)\"$(${(Q)~words[1]} complete -- \"${(@Q)words[2,CURRENT]}\" 2>/dev/null)\"}; do\n"
	"\t\tcandidate=${line%%$'\\t'*}\n"
	"\t\tif [[ $candidate == '<files>' ]]; then\n"
	"\t\t\t_files\n"
	"\t\t\treturn\n"
	"\t\telif [[ $candidate == *= ]]; then\n"
	"\t\t\topen+=($candidate)\n"
	"\t\t\tshown_open+=(\"${line/$'\\t'/  -- }\")\n"
	"\t\telse\n"
	"\t\t\tcandidates+=($candidate)\n"
	"\t\t\tshown+=(\"${line/$'\\t'/  -- }\")\n"
	"\t\tfi\n"
	"\tdone\n"
	"\tcompadd -l -d shown -a candidates\n"
	"\tcompadd -S '' -l -d shown_open -a open\n"
	"}\n"
	"if [[ $funcstack[1] == _heliosdb-proxy ]]; then\n"
	"\t_heliosdb-proxy \"$@\"\n"
	"else\n"
	"\tcompdef _heliosdb-proxy heliosdb-proxy\n"
	"fi\n";

int completion_command(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "bash") == 0)
		fputs(bash_script, stdout);
	else if (argc == 2 && strcmp(argv[1], "zsh") == 0)
		fputs(zsh_script, stdout);
	else {
		fprintf(stderr, "Usage: heliosdb-proxy completion bash|zsh\n");
		return CLIENT_USAGE;
	}
	return CLIENT_OK;
}

/* ---- what a word may become ---- */

/* Which proxy, and with what. */
#define TARGET_WORDS \
	{"--url", "the admin API", 'x'}, {"--socket", "its unix socket", 'f'}, \
		{"--token-file", "file with the token", 'f'}, {"--config", "the proxy's configuration", 'f'}, \
		{"-c", "the proxy's configuration", 'f'}, {"--cacert", "authorities of the API's certificate", 'f'}, \
		{"--cert", "a certificate for the API", 'f'}, \
	{ \
		"--key", "its key", 'f' \
	}

static const struct word {
	const char *word, *help;
	char argument; /* 'f' a file, 'x' anything, 0: none */
} ctl_options[] = {
	TARGET_WORDS,
	{"--output", "table, json or csv", 'o'},
	{"-o", "table, json or csv", 'o'},
	{"--follow", "goes on with what comes", 0},
	{"-f", "goes on with what comes", 0},
	{"--yes", "don't ask", 0},
	{"-y", "don't ask", 0},
	{"--timeout", "seconds to wait for an answer", 'x'},
	{"--help", "all verbs and options", 0},
};

static const struct word top_options[] = {
	TARGET_WORDS,
	{"--batch", "plain text, without keys", 0},
	{"--count", "how many times", 'x'},
	{"-n", "how many times", 'x'},
	{"--delay", "seconds between two looks", 'x'},
	{"-d", "seconds between two looks", 'x'},
	{"--view", "what to begin with", 'v'},
	{"--help", "keys and options", 0},
};

static const struct word proxy_words[] = {
	{"ctl", "looks at a running proxy, and steers it", 0},
	{"top", "shows what a proxy does, again and again", 0},
	{"import", "proxy.toml from PgBouncer's configuration", 0},
	{"completion", "what makes bash or zsh complete", 0},
	{"--config", "the configuration", 'f'},
	{"-c", "the configuration", 'f'},
	{"--pgbouncer", "the configuration, in PgBouncer's format", 'f'},
	{"--check-config", "check it and end", 0},
	{"--print-config", "print all values and end", 0},
	{"--strict", "what this build can't do is an error", 0},
	{"--listen", "where clients connect", 'x'},
	{"-l", "where clients connect", 'x'},
	{"--admin", "where the admin API listens", 'x'},
	{"--primary", "the primary", 'x'},
	{"--standby", "a standby", 'x'},
	{"--log-level", "trace, debug, info, warn, error", 'l'},
	{"--json-logs", "log lines as JSON", 0},
	{"--version", "the version", 0},
	{"--help", "all options", 0},
};

struct completion {
	struct target_options target;
	const char *current; /* the word that is being written */
};

/* What a shell would not leave alone is not for it. */
static bool is_plain(const char *text)
{
	for (const char *at = text; *at; at++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@%+/,-=", *at))
			return false;
	return *text && *text != '=';
}

static void offer(const struct completion *c, const char *prefix, const char *word, const char *help)
{
	char whole[300];

	if (snprintf(whole, sizeof(whole), "%s%s", prefix, word) >= (int)sizeof(whole) || !is_plain(word) ||
	    strncmp(whole, c->current, strlen(c->current)) != 0)
		return;
	printf("%s%s%s\n", whole, *help ? "\t" : "", help);
}

static void offer_words(const struct completion *c, const char *prefix, const char *words)
{
	while (*words) {
		size_t len = strcspn(words, "|");
		char word[64];

		snprintf(word, sizeof(word), "%.*s", (int)len, words);
		offer(c, prefix, word, "");
		words += len + (words[len] == '|');
	}
}

static void offer_table(const struct completion *c, const struct word *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (words[i].word[0] != '-' || (c->current[0] == '-' && words[i].word[1] == '-'))
			offer(c, "", words[i].word, words[i].help);
}

/* ---- live: what the proxy has ---- */

/* Values of one member of a list's items, each once. */
static void offer_live(const struct completion *c, const char *prefix, const char *path, const char *key,
		       const char *help_key)
{
	struct target target;
	struct api_answer answer;
	struct api api;
	json_t *item, *seen = json_object();
	size_t i;

	if (target_find(&c->target, &target, /* quiet= */ true)) {
		if (api_open(&target, &api)) {
			api.timeout = LIVE_TIMEOUT;
			(void)api_call(&api, "GET", path, NULL, &answer);
			json_array_foreach(json_object_get(answer.json, "items"), i, item)
			{
				struct buf value = BUF_INIT(300), help = BUF_INIT(300);

				buf_add_value(&value, json_object_get(item, key));
				buf_add_value(&help, json_object_get(item, help_key));
				if (!value.failed && !json_object_get(seen, buf_cstr(&value)))
					offer(c, prefix, buf_cstr(&value),
					      is_plain(buf_cstr(&help)) ? buf_cstr(&help) : "");
				json_object_set_new(seen, buf_cstr(&value), json_true());
				buf_free(&value);
				buf_free(&help);
			}
			api_answer_free(&answer);
			api_close(&api);
		}
		target_free(&target);
	}
	json_decref(seen);
}

static void offer_argument(const struct completion *c, enum verb_argument argument)
{
	switch (argument) {
	case ARGUMENT_NODE_OR_NONE:
		offer(c, "", "none", "nobody is named");
		FALLTHROUGH;
	case ARGUMENT_NODE:
		offer_live(c, "", "/api/v1/nodes", "name", "role");
		break;
	case ARGUMENT_PID:
		offer_live(c, "", "/api/v1/sessions?limit=1000", "pid", "user");
		break;
	case ARGUMENT_DATABASE:
		offer_live(c, "", "/api/v1/pools", "database", "");
		break;
	case ARGUMENT_CONFIG_KEY:
		offer_live(c, "", "/api/v1/config", "key", "");
		break;
	default:
		break;
	}
}

/* What stands behind key=. */
static void offer_value(const struct completion *c, const struct verb_key *key, const char *prefix)
{
	if (key->words[0])
		offer_words(c, prefix, key->words);
	else if (strcmp(key->name, "database") == 0 || strcmp(key->name, "user") == 0)
		offer_live(c, prefix, "/api/v1/pools", key->name, "");
	else if (strcmp(key->name, "node") == 0)
		offer_live(c, prefix, "/api/v1/nodes", "name", "role");
}

static void offer_keys(const struct completion *c, const struct verb *verb)
{
	const char *at = verb->keys, *equals = strchr(c->current, '=');
	struct verb_key key;
	char word[64];

	while (verb_next_key(&at, &key)) {
		snprintf(word, sizeof(word), "%s=", key.name);
		if (!equals)
			offer(c, "", word, "");
		else if (strncmp(c->current, word, strlen(word)) == 0)
			offer_value(c, &key, word);
	}
}

/* ---- where the word stands ---- */

static const struct word *find_word(const struct word *words, size_t count, const char *text)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i].word, text) == 0)
			return &words[i];
	return NULL;
}

static void note_option(struct completion *c, const char *name, const char *value)
{
	const struct {
		const char *name;
		const char **place;
	} noted[] = {{"--url", &c->target.url},
		     {"--socket", &c->target.socket_path},
		     {"--token-file", &c->target.token_file},
		     {"--config", &c->target.config_path},
		     {"-c", &c->target.config_path},
		     {"--cacert", &c->target.ca_path},
		     {"--cert", &c->target.cert_path},
		     {"--key", &c->target.key_path}};

	for (size_t i = 0; i < ARRAY_SIZE(noted); i++)
		if (strcmp(noted[i].name, name) == 0)
			*noted[i].place = value;
}

static void offer_for_option(const struct completion *c, const struct word *option)
{
	if (option->argument == 'f')
		puts("<files>");
	else if (option->argument == 'o')
		offer_words(c, "", "table|json|csv");
	else if (option->argument == 'v')
		offer_words(c, "", "pools|queries|nodes|sessions|events|statements");
	else if (option->argument == 'l')
		offer_words(c, "", "trace|debug|info|warn|error");
}

/* The second word of verbs with two. */
static void offer_second_words(const struct completion *c, const char *first)
{
	size_t len = strlen(first);

	for (size_t i = 0; i < verb_count; i++)
		if (strncmp(verbs[i].words, first, len) == 0 && verbs[i].words[len] == ' ')
			offer(c, "", verbs[i].words + len + 1, verbs[i].help);
}

static void offer_verbs(const struct completion *c)
{
	char last[32] = "";

	for (size_t i = 0; i < verb_count; i++) {
		char first[32];
		size_t len = strcspn(verbs[i].words, " ");

		snprintf(first, sizeof(first), "%.*s", (int)len, verbs[i].words);
		if (strcmp(first, last) != 0)
			offer(c, "", first, verbs[i].words[len] ? "" : verbs[i].help);
		memcpy(last, first, sizeof(last));
	}
}

static void offer_for_ctl(const struct completion *c, char **words, int count)
{
	int used = 0;
	const struct verb *verb = verb_find(words, count, &used);

	if (c->current[0] == '-') {
		offer_table(c, ctl_options, ARRAY_SIZE(ctl_options));
	} else if (count == 0) {
		offer_verbs(c);
	} else if (!verb) {
		offer_second_words(c, words[0]);
	} else if (count == used && verb->argument != ARGUMENT_NONE) {
		offer_argument(c, verb->argument);
	} else {
		offer_keys(c, verb);
		if (count == 1)
			offer_second_words(c, words[0]); /* of queries: queries reset */
	}
}

/*
 * The words before the last one, without options and what these take. false: the word is an option's, and it was
 * answered.
 */
static bool skip_options(struct completion *c, const struct word *options, size_t option_count, char **words, int count,
			 char **ret_words, int *ret_count)
{
	*ret_count = 0;
	for (int i = 0; i < count; i++) {
		const struct word *option = words[i][0] == '-' ? find_word(options, option_count, words[i]) : NULL;

		if (option && option->argument && i + 1 == count) {
			offer_for_option(c, option);
			return false;
		}
		if (option && option->argument)
			note_option(c, words[i], words[i + 1]), i++;
		else if (words[i][0] != '-')
			ret_words[(*ret_count)++] = words[i];
	}
	return true;
}

static void complete(struct completion *c, char **words, int count, char **plain)
{
	int plain_count;

	if (count > 0 && strcmp(words[0], "ctl") == 0) {
		if (skip_options(c, ctl_options, ARRAY_SIZE(ctl_options), words + 1, count - 1, plain, &plain_count))
			offer_for_ctl(c, plain, plain_count);
	} else if (count > 0 && strcmp(words[0], "top") == 0) {
		if (skip_options(c, top_options, ARRAY_SIZE(top_options), words + 1, count - 1, plain, &plain_count) &&
		    c->current[0] == '-')
			offer_table(c, top_options, ARRAY_SIZE(top_options));
	} else if (count > 0 && strcmp(words[0], "completion") == 0) {
		offer_words(c, "", "bash|zsh");
	} else if (count > 0 && strcmp(words[0], "import") == 0) {
		if (count == 1)
			offer(c, "", "pgbouncer", "");
		else
			puts("<files>");
	} else if (skip_options(c, proxy_words, ARRAY_SIZE(proxy_words), words, count, plain, &plain_count)) {
		offer_table(c, proxy_words, ARRAY_SIZE(proxy_words));
	}
}

int complete_command(int argc, char **argv)
{
	struct completion c = {.current = argc > 1 ? argv[argc - 1] : ""};
	char **words = argv + 1, **plain;
	int count = argc - 2;

	if (count >= 0 && strcmp(words[0], "--") == 0) {
		words++;
		count--;
	}
	plain = calloc((size_t)argc + 1, sizeof(*plain));
	if (!plain || count < 0)
		c.current = "";
	if (plain)
		complete(&c, words, MAX(count, 0), plain);
	free(plain);
	return CLIENT_OK;
}
