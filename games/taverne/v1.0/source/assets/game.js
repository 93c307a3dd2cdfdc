// A form is sent once, however often the button is pressed.
document.addEventListener('submit', (event) => {
  const button = event.target.querySelector('button');
  if (button) setTimeout(() => { button.disabled = true; }, 0);
});
