// After the page was loaded anew, the tab shows the job that runs, or the newest one, again.
onUiLoaded(function () {
    var button = gradioApp().querySelector("#rerender_restore");
    if (button) {
        button.click();
    }
});
