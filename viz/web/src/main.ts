// Opens the page.

import { App } from "./app";

new App(document.getElementById("app")!).open();
