"""The live view: a page, its pictures and its results, for whoever looks at this device."""
