"use strict";
// Of several figures the one that is chosen is shown.
document.querySelectorAll("select[data-shows]").forEach((select) => {
  const choices = document.getElementById(`${select.dataset.shows}-choices`);
  const show = () => {
    [...choices.children].forEach((one) => {
      one.hidden = one.id !== select.value;
    });
  };
  select.closest(".choose").hidden = false;
  select.addEventListener("change", show);
  show(); // browsers keep what was chosen when a page is loaded again
});
