/* Before anything is painted: the theme chosen here last, else the system's. No module, for those run later. */
document.documentElement.dataset.theme = localStorage.getItem("helios_theme") ||
	(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
