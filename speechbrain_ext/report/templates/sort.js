// A click on a column's head sorts the table by it, a second one backwards.
(function () {
  "use strict";
  function key(row, column) {
    const text = row.cells[column].textContent.trim();
    const number = parseFloat(text.replace(/,/g, ""));
    return isNaN(number) ? text.toLowerCase() : number;
  }
  function before(a, b) {
    // Numbers stand before words.
    if (typeof a !== typeof b) { return typeof a === "number" ? -1 : 1; }
    if (typeof a === "number") { return a - b; }
    return a.localeCompare(b);
  }
  document.querySelectorAll("table").forEach(function (table) {
    const heads = Array.from(table.tHead.rows[0].cells);
    const body = table.tBodies[0];
    if (body.rows.length < 2) { return; }
    heads.forEach(function (head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      button.addEventListener("click", function () {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach(function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        Array.from(body.rows)
          .sort(function (a, b) {
            return (up ? 1 : -1) * before(key(a, column), key(b, column));
          })
          .forEach(function (row) { body.appendChild(row); });
      });
    });
  });
  // One voice at a time.
  document.addEventListener("play", function (event) {
    document.querySelectorAll("audio").forEach(function (other) {
      if (other !== event.target) { other.pause(); }
    });
  }, true);
}());
