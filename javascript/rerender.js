// After the page was loaded anew, the tab shows the job that runs, or the newest one, again: the button is pressed as
// soon as it is there and gradio listens to it, which takes a moment longer than onUiLoaded.
onUiLoaded(function () {
    var attempts = 0;
    var timer = setInterval(function () {
        var button = gradioApp().querySelector("#rerender_restore");
        attempts += 1;
        if (button && attempts > 1) {
            clearInterval(timer);
            button.click();
        } else if (attempts > 60) {
            clearInterval(timer);
        }
    }, 1000);
});
