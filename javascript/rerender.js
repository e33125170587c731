// Parts of the tab that gradio has no component for. Custom elements draw themselves wherever gradio puts their HTML,
// in the webui and in `python -m rerender ui` alike: where the webui's own scripts are missing, it does without them.
(function () {
    "use strict";

    function make(tag, className, text) {
        const element = document.createElement(tag);
        if (className) element.className = className;
        if (text !== undefined) element.textContent = text;
        return element;
    }

    function selectedFrame() {
        return document.querySelector("#rerender_redo_frame input");
    }

    function set(element, name, value) {
        if (element.getAttribute(name) !== value) element.setAttribute(name, value);
    }

    function define(name, constructor) {
        if (!customElements.get(name)) customElements.define(name, constructor);
    }

    const ARROWS = {ArrowLeft: -1, ArrowRight: 1};

    // The strip of key frames: a click selects one, the arrow keys go on to the one beside it.
    class Strip extends HTMLElement {
        connectedCallback() {
            if (this.drawn) return;
            this.drawn = true;
            this.addEventListener("click", (event) => {
                const tile = event.target.closest("button[data-frame]");
                if (tile) this.select(tile.dataset.frame);
            });
            this.addEventListener("keydown", (event) => {
                const tiles = [...this.querySelectorAll("button[data-frame]")];
                const next = tiles[tiles.indexOf(event.target) + (ARROWS[event.key] || NaN)];
                if (!next) return;
                event.preventDefault();
                next.focus();
                this.select(next.dataset.frame);
            });
            this.mark();
        }

        select(frame) {
            const input = selectedFrame();
            if (!input) return;
            input.value = frame;
            input.dispatchEvent(new Event("input", {bubbles: true}));
            this.mark();
        }

        mark() {
            const input = selectedFrame();
            const job = document.querySelector("#rerender_status .rerender-frames");
            const same = job && job.dataset.clip === this.dataset.clip;
            const rendered = new Set(same ? job.dataset.rendered.split(" ") : []);
            for (const tile of this.querySelectorAll("button[data-frame]")) {
                const frame = tile.dataset.frame;
                const selected = Boolean(input) && frame === input.value;
                const state = {
                    rendered: rendered.has(frame),
                    rendering: Boolean(same) && frame === job.dataset.rendering,
                };
                tile.classList.toggle("selected", selected);
                set(tile, "aria-pressed", String(selected));
                for (const [name, on] of Object.entries(state)) tile.classList.toggle(name, on);
                const said = Object.keys(state).filter((name) => state[name]);
                set(tile, "aria-label", [`frame ${frame}`, ...said].join(", "));
            }
        }
    }

    // Two pictures of one size under each other, and a line that uncovers one of them.
    function wipeStage(before, after) {
        const stage = make("div", "rerender-stage wipe");
        const line = make("i", "rerender-line");
        before.classList.add("before");
        after.classList.add("after");
        stage.append(after, before, line, make("em", "left", "source"), make("em", "right", "result"));
        let shared = 0.5;
        const place = (share) => {
            shared = Math.min(1, Math.max(0, share));
            stage.style.setProperty("--rerender-share", `${shared * 100}%`);
            stage.setAttribute("aria-valuenow", Math.round(shared * 100));
        };
        const slider = {tabindex: 0, role: "slider", "aria-label": "Line between source and result"};
        for (const [name, value] of Object.entries(slider)) stage.setAttribute(name, value);
        stage.addEventListener("keydown", (event) => {
            if (!stage.classList.contains("wipe") || !ARROWS[event.key]) return;
            event.preventDefault();
            place(shared + 0.05 * ARROWS[event.key]);
        });
        const follow = (event) => {
            const box = stage.getBoundingClientRect();
            place((event.clientX - box.left) / box.width);
        };
        stage.addEventListener("pointermove", (event) => {
            if (stage.classList.contains("wipe") && (event.pointerType === "mouse" || event.buttons)) follow(event);
        });
        stage.addEventListener("pointerdown", follow);
        place(shared);
        return stage;
    }

    class Wipe extends HTMLElement {
        connectedCallback() {
            if (this.firstChild) return;
            const [before, after] = ["before", "after"].map((name) => {
                const picture = make("img");
                picture.src = this.getAttribute(name);
                picture.alt = name;
                picture.draggable = false;
                return picture;
            });
            this.append(wipeStage(before, after), make("figcaption", "", this.getAttribute("caption") || ""));
        }
    }

    // The finished clip and its source, played in step.
    class Player extends HTMLElement {
        connectedCallback() {
            if (this.drawn || !this.getAttribute("source")) return;
            this.drawn = true;
            this.replaceChildren();
            this.result = this.video(this.getAttribute("result"), false);
            this.source = this.video(this.getAttribute("source"), true);
            this.stage = wipeStage(this.source, this.result);
            this.append(this.stage, this.controls());
            this.stage.addEventListener("keydown", (event) => {
                if (event.key !== " ") return;
                event.preventDefault();
                this.play.click();
            });
            this.mode("wipe");
            this.keepInStep();
        }

        disconnectedCallback() {
            cancelAnimationFrame(this.tick);
        }

        video(address, muted) {
            const video = make("video");
            Object.assign(video, {src: address, loop: true, muted: muted, playsInline: true, preload: "auto"});
            return video;
        }

        controls() {
            const row = make("div", "rerender-controls");
            this.play = make("button", "", "▶");
            this.play.type = "button";
            this.play.title = "Play or pause";
            this.play.setAttribute("aria-label", this.play.title);
            this.play.onclick = () => (this.result.paused ? this.start() : this.pause());
            this.bar = make("input");
            Object.assign(this.bar, {type: "range", min: 0, max: 1, step: 0.001, value: 0, title: "Position"});
            this.bar.oninput = () => this.seek(this.bar.value * this.length());
            this.clock = make("span", "clock", "0.0 s");
            row.append(this.play, this.bar, this.clock);
            this.modes = {};
            for (const [name, label] of [["wipe", "Wipe"], ["beside", "Side by side"], ["single", "Result only"]]) {
                this.modes[name] = make("button", "", label);
                this.modes[name].type = "button";
                this.modes[name].onclick = () => this.mode(name);
                row.append(this.modes[name]);
            }
            const save = make("a", "", "⬇ Download");
            save.href = this.getAttribute("result");
            save.download = this.getAttribute("name") || "";
            row.append(save);
            return row;
        }

        mode(name) {
            for (const [other, button] of Object.entries(this.modes)) {
                button.classList.toggle("on", other === name);
                button.setAttribute("aria-pressed", other === name);
                this.stage.classList.toggle(other, other === name);
            }
        }

        length() {
            return this.result.duration || 0;
        }

        start() {
            this.source.currentTime = this.result.currentTime;
            this.result.play();
            this.source.play();
        }

        pause() {
            this.result.pause();
            this.source.pause();
            this.source.currentTime = this.result.currentTime;
        }

        seek(time) {
            this.result.currentTime = time;
            this.source.currentTime = time;
        }

        keepInStep() {
            const step = () => {
                const time = this.result.currentTime;
                this.play.textContent = this.result.paused ? "▶" : "⏸";
                this.clock.textContent = `${time.toFixed(1)} / ${this.length().toFixed(1)} s`;
                if (document.activeElement !== this.bar) this.bar.value = this.length() ? time / this.length() : 0;
                if (!this.result.paused && !this.source.seeking && Math.abs(this.source.currentTime - time) > 0.06) {
                    this.source.currentTime = time;
                }
                if (!this.result.paused && this.source.paused && !this.source.ended) this.source.play();
                this.tick = requestAnimationFrame(step);
            };
            this.tick = requestAnimationFrame(step);
        }
    }

    define("rerender-strip", Strip);
    define("rerender-wipe", Wipe);
    define("rerender-player", Player);

    document.addEventListener("input", (event) => {
        if (event.target === selectedFrame()) document.querySelectorAll("rerender-strip").forEach((strip) => strip.mark());
    });
    // The webui's Esc and Ctrl+Enter ask the Interrupt button's own style whether something runs. Ours is always in
    // sight (style.css), so for them alone it says so.
    const tellKeys = () => {
        const interrupt = document.querySelector("#rerender_interrupt");
        const runs = document.querySelector("#rerender_status .rerender-state.running") !== null;
        const display = runs ? "block" : "none";
        if (interrupt && interrupt.style.display !== display) interrupt.style.display = display;
    };

    document.addEventListener("keydown", tellKeys, true);  // before the webui looks: the card may be newer than our look

    // A run takes long: the window's title tells how far it is, and a notification that it is over, to whoever turned to
    // something else meanwhile. Both only as the webui does it for its own runs.
    const asked = (name) => (typeof opts === "undefined" ? true : opts[name]);
    let ran = false;
    const tellOthers = () => {
        const runs = document.querySelector("#rerender_status .rerender-state.running") !== null;
        const bar = document.querySelector("#rerender_status .rerender-bar");
        const title = document.title.replace(/^\[Rerender \d+%\] /, "");
        const far = runs && bar && asked("show_progress_in_title") ? Math.round(bar.getAttribute("aria-valuenow")) : null;
        const wanted = far === null ? title : `[Rerender ${far}%] ${title}`;
        if (document.title !== wanted) document.title = wanted;
        if (ran && !runs) notify(document.querySelector("#rerender_status .rerender-card"));
        ran = runs;
    };
    const notify = (card) => {
        if (!card || document.hasFocus() || !("Notification" in window) || Notification.permission !== "granted") return;
        const head = card.querySelector(".rerender-head, b");
        const notification = new Notification("Rerender", {body: head ? head.innerText : ""});
        notification.onclick = () => {
            window.focus();
            notification.close();
        };
    };

    // Gradio sets the number by itself when a picture of the gallery is clicked, without an event.
    setInterval(() => {
        document.querySelectorAll("rerender-strip").forEach((strip) => strip.mark());
        tellKeys();
        tellOthers();
    }, 300);

    // The webui's counters of tokens and of brackets, for our prompts.
    const counted = ["prompt", "negative_prompt"].map((name) =>
        ["", "_counter", "_count"].map((end) => `rerender_${name}${end}`)
    );
    if (typeof setupTokenCounting === "function") {
        onUiLoaded(() => {
            for (const [prompt, counter, button] of counted) {
                setupTokenCounting(prompt, counter, button);
                if (typeof setupBracketChecking === "function") setupBracketChecking(prompt, counter);
            }
        });
        onOptionsChanged(() => counted.forEach((ids) => toggleTokenCountingVisibility(...ids)));
    }

    // After the page was loaded anew, the tab shows the job that runs, or the newest one, again: the button is pressed
    // as soon as it is there and gradio listens to it, which takes a moment longer than onUiLoaded. Whoever began something
    // else in that moment keeps it. Alone, the page's own load event does this.
    if (typeof onUiLoaded === "function") {
        let touched = false;
        const noteTouch = (event) => {
            touched = touched || (event.isTrusted && event.target.closest("#tab_rerender") !== null);
        };
        document.addEventListener("input", noteTouch, true);
        onUiLoaded(() => {
            let attempts = 0;
            const timer = setInterval(() => {
                const button = document.querySelector("#rerender_restore");
                attempts += 1;
                if (button && attempts > 1) {
                    clearInterval(timer);
                    document.removeEventListener("input", noteTouch, true);
                    if (!touched) button.click();
                } else if (attempts > 60) {
                    clearInterval(timer);
                }
            }, 1000);
        });
    }
})();
